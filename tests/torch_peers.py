"""The PyTorch implementations of MViT, built from a config of ours, for comparing with.

Used by tests marked `compare` and by `make_references.py`; needs the extra `compare`. Imports of
torch stay inside the functions.
"""

import importlib
import sys
from unittest import mock

import numpy as np

from benchmarks.peers import (  # noqa: F401
    import_torchvision,
    pytorchvideo_model,
    stage_starts,
    timm_model,
    torchvision_model,
)

# What the model files of SlowFast and mvit import that no forward pass uses: replaced, for their
# own imports ask for packages and versions that need not be there.
_UNRELATED_MODULES = (
    "detectron2",
    "detectron2.layers",
    "slowfast.models.batchnorm_helper",
    "slowfast.models.contrastive",
    "slowfast.models.masked",
    "slowfast.utils.distributed",
    "slowfast.utils.logging",
    "slowfast.utils.misc",
    "mvit.utils.logging",
    "mvit.utils.misc",
)


def slowfast_model(config, checkout):
    """SlowFast's MViT from a checkout of facebookresearch/SlowFast, without its final softmax."""
    import torch

    import_torchvision()
    defaults, builder = import_from(
        checkout, "slowfast.config.defaults", "slowfast.models.video_model_builder"
    )
    model = builder.MViT(_slowfast_cfg(defaults, config)).eval()
    model.head.act = torch.nn.Identity()
    return model


def maskfeat_model(config, checkout):
    """SlowFast's MaskFeat of histograms of gradients, from a checkout."""
    import_torchvision()
    defaults, masked = import_from(
        checkout,
        "slowfast.config.defaults",
        "slowfast.models.masked",
        needed=("slowfast.models.masked",),
    )
    cfg = _slowfast_cfg(defaults, config)
    cfg.MASK.ENABLE = cfg.MASK.PRED_HOG = True
    cfg.MASK.PRETRAIN_DEPTH = [cfg.MVIT.DEPTH - 1]
    cfg.MASK.HEAD_TYPE = "separate"
    return masked.MaskMViT(cfg).eval()


def _slowfast_cfg(defaults, config):
    first = slice(1, None) if config.image else slice(None)
    cfg = defaults.get_cfg()
    _set_common(cfg, config)
    cfg.DATA.NUM_FRAMES = config.input_size[0]
    cfg.DATA.INPUT_CHANNEL_NUM = [3]
    cfg.MVIT.PATCH_2D = config.image
    for name in ("kernel", "stride", "padding"):
        setattr(cfg.MVIT, f"PATCH_{name.upper()}", list(getattr(config, f"patch_{name}")[first]))
    cfg.MVIT.SEP_POS_EMBED = config.positions == "separate"
    cfg.MVIT.REL_POS_TEMPORAL = config.relative_positions == "space_time"
    cfg.MVIT.USE_MEAN_POOLING = config.readout == "mean_before_norm"
    cfg.MVIT.POOL_KVQ_KERNEL = config.pool_kernel and list(config.pool_kernel)
    cfg.MVIT.POOL_KV_STRIDE_ADAPTIVE = list(config.key_stride)
    cfg.MVIT.POOL_Q_STRIDE = [
        [spec.index, *spec.query_stride]
        for spec in config.blocks()
        if config.pool_every_query or max(spec.query_stride) > 1
    ]
    return cfg


def mvit_model(config, checkout):
    """The image model of a checkout of facebookresearch/mvit, without its final softmax."""
    import torch

    import_torchvision()
    defaults, builder = import_from(checkout, "mvit.config.defaults", "mvit.models.mvit_model")
    cfg = defaults.get_cfg()
    _set_common(cfg, config)
    for name in ("kernel", "stride", "padding"):
        setattr(cfg.MVIT, f"PATCH_{name.upper()}", list(getattr(config, f"patch_{name}")[1:]))
    cfg.MVIT.POOL_KVQ_KERNEL = list(config.pool_kernel[1:])
    cfg.MVIT.POOL_KV_STRIDE_ADAPTIVE = list(config.key_stride[1:])
    cfg.MVIT.POOL_Q_STRIDE = [[spec.index, *spec.query_stride[1:]] for spec in config.blocks()]
    model = builder.MViT(cfg).eval()
    model.head.act = torch.nn.Identity()
    return model


def _set_common(cfg, config):
    """The options that SlowFast and mvit share."""
    cfg.DATA.TRAIN_CROP_SIZE = cfg.DATA.TEST_CROP_SIZE = config.input_size[1]
    cfg.MODEL.NUM_CLASSES = config.num_classes
    cfg.MVIT.EMBED_DIM = config.embed_dim
    cfg.MVIT.NUM_HEADS = config.num_heads
    cfg.MVIT.DEPTH = sum(config.depths)
    cfg.MVIT.MLP_RATIO = config.mlp_ratio
    cfg.MVIT.MODE = config.pool_mode
    cfg.MVIT.CLS_EMBED_ON = config.class_token
    cfg.MVIT.USE_ABS_POS = config.positions != "none"
    cfg.MVIT.REL_POS_SPATIAL = config.relative_positions != "none"
    cfg.MVIT.RESIDUAL_POOLING = config.residual_pooling != "none"
    cfg.MVIT.DIM_MUL_IN_ATT = config.expand_in == "attention"
    cfg.MVIT.QKV_BIAS = config.qkv_bias
    cfg.MVIT.DIM_MUL = cfg.MVIT.HEAD_MUL = [[start, 2.0] for start in stage_starts(config)]


def import_from(checkout, *names, needed=()):
    unrelated = set(_UNRELATED_MODULES) - set(needed)
    stand_ins = {name: mock.MagicMock() for name in unrelated}
    sys.path.insert(0, str(checkout))
    try:
        with mock.patch.dict(sys.modules, stand_ins):
            return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(checkout))


def perturb(model, seed, scale=0.05):
    """Moves every parameter away from its initial value; the values are exact in float16."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_((parameter + scale * noise).half().float())
    return model


def average_in_place_of_max(model):
    """Replaces every max pooling of a model by the average pooling of the same windows."""
    import torch

    twins = {torch.nn.MaxPool3d: torch.nn.AvgPool3d, torch.nn.MaxPool2d: torch.nn.AvgPool2d}
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) in twins:
                twin = twins[type(child)](child.kernel_size, child.stride, child.padding)
                setattr(module, name, twin)


def state_dict(model):
    """name -> numpy array."""
    return {name: values.detach().numpy() for name, values in model.state_dict().items()}


def forward(model, frames):
    """Logits (B, K), a torch tensor, of numpy frames (B, T, H, W, 3) or images (B, H, W, 3)."""
    import torch

    channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, 1)))
    pathways = type(model).__module__.startswith("slowfast")
    return model([channels_first] if pathways else channels_first)


def loss_gradients(model, frames, loss_weights):
    """Gradients of sum(logits * loss_weights): name -> numpy array."""
    import torch

    model.zero_grad()
    (forward(model, frames) * torch.from_numpy(loss_weights)).sum().backward()
    return {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


def random_frames(config, batch=2, seed=0):
    """Frames or images for a config, float32 with values exact in float16."""
    size = config.input_size[1:] if config.image else config.input_size
    frames = np.random.default_rng(seed).standard_normal((batch, *size, 3))
    return frames.astype(np.float16).astype(np.float32)


def random_loss_weights(config, batch=2, seed=1):
    """Weights (B, K) that turn logits into one loss."""
    shape = (batch, config.num_classes)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
