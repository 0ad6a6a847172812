"""The PyTorch implementations of MViT, built from a config of ours, for comparing with.

Used by tests marked `compare` and by `make_references.py`; needs the extra `compare`. Imports of
torch stay inside the functions.
"""

import importlib
import sys
from unittest import mock

import numpy as np

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
    "mvit.utils.logging",
    "mvit.utils.misc",
)


def import_torchvision():
    """Imports torchvision, also where its compiled operators do not fit the torch installed.

    Such a build fails at import for want of `torchvision::nms`, which no model here uses.
    """
    import torch

    try:
        import torchvision
    except RuntimeError:
        global _operators  # a library lives as long as its object
        _operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


def torchvision_model(config):
    """`torchvision.models.video.MViT`, in eval mode."""
    import_torchvision()
    from torchvision.models.video import mvit

    blocks = [
        mvit.MSBlockConfig(
            num_heads=spec.num_heads,
            input_channels=spec.input_dim,
            output_channels=spec.output_dim,
            kernel_q=list(spec.query_kernel),
            kernel_kv=list(spec.key_kernel),
            stride_q=list(spec.query_stride),
            stride_kv=list(spec.key_stride),
        )
        for spec in config.blocks()
    ]
    return mvit.MViT(
        spatial_size=config.input_size[1:],
        temporal_size=config.input_size[0],
        block_setting=blocks,
        residual_pool=config.residual_pooling != "none",
        residual_with_cls_embed=config.residual_pooling == "all",
        rel_pos_embed=config.relative_positions == "space_time",
        proj_after_attn=config.widen_in == "attention",
        num_classes=config.num_classes,
        patch_embed_kernel=config.patch_kernel,
        patch_embed_stride=config.patch_stride,
        patch_embed_padding=config.patch_padding,
    ).eval()


def pytorchvideo_model(config):
    """PyTorchVideo's model of release 0.1.5, in eval mode.

    That release gave the norms after pooling PyTorch's default epsilon of 1e-5; its later
    sources, SlowFast and torchvision have 1e-6, which is set here.
    """
    import torch

    import_torchvision()
    from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers

    first = slice(1, None) if config.image else slice(None)
    model = create_multiscale_vision_transformers(
        spatial_size=config.input_size[1:],
        temporal_size=config.input_size[0],
        cls_embed_on=config.class_token,
        sep_pos_embed=config.positions == "separate",
        depth=sum(config.depths),
        patch_embed_dim=config.embed_dim,
        conv_patch_embed_kernel=config.patch_kernel[first],
        conv_patch_embed_stride=config.patch_stride[first],
        conv_patch_embed_padding=config.patch_padding[first],
        use_2d_patch=config.image,
        num_heads=config.num_heads,
        qkv_bias=config.qkv_bias,
        pooling_mode=config.pool_mode,
        embed_dim_mul=[[start, 2.0] for start in _stage_starts(config)],
        atten_head_mul=[[start, 2.0] for start in _stage_starts(config)],
        pool_q_stride_size=[[start, *config.query_stride] for start in _stage_starts(config)],
        pool_kv_stride_adaptive=list(config.key_stride),
        pool_kvq_kernel=config.pool_kernel and list(config.pool_kernel),
        head_num_classes=config.num_classes,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    return model.eval()


def timm_model(config):
    """`timm.models.mvitv2.MultiScaleVit`, in eval mode; for image configs."""
    import_torchvision()
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    stages = len(config.depths)
    cfg = MultiScaleVitCfg(
        depths=config.depths,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        expand_attn=config.widen_in == "attention",
        qkv_bias=config.qkv_bias,
        use_cls_token=config.class_token,
        use_abs_pos=config.positions == "joint",
        residual_pooling=config.residual_pooling != "none",
        mode=config.pool_mode,
        kernel_qkv=config.pool_kernel[1:],
        stride_q=((1, 1), *(config.query_stride[1:],) * (stages - 1)),
        stride_kv_adaptive=config.key_stride[1:],
        patch_kernel=config.patch_kernel[1:],
        patch_stride=config.patch_stride[1:],
        patch_padding=config.patch_padding[1:],
        rel_pos_type="spatial" if config.relative_positions == "space" else "",
    )
    return MultiScaleVit(cfg, img_size=config.input_size[1:], num_classes=config.num_classes).eval()


def slowfast_model(config, checkout):
    """SlowFast's MViT from a checkout of facebookresearch/SlowFast, without its final softmax."""
    import torch

    import_torchvision()
    defaults, builder = _import_from(
        checkout, "slowfast.config.defaults", "slowfast.models.video_model_builder"
    )
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
    model = builder.MViT(cfg).eval()
    model.head.act = torch.nn.Identity()
    return model


def mvit_model(config, checkout):
    """The image model of a checkout of facebookresearch/mvit, without its final softmax."""
    import torch

    import_torchvision()
    defaults, builder = _import_from(checkout, "mvit.config.defaults", "mvit.models.mvit_model")
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
    cfg.MVIT.DIM_MUL_IN_ATT = config.widen_in == "attention"
    cfg.MVIT.QKV_BIAS = config.qkv_bias
    cfg.MVIT.DIM_MUL = cfg.MVIT.HEAD_MUL = [[start, 2.0] for start in _stage_starts(config)]


def _stage_starts(config):
    return [sum(config.depths[:stage]) for stage in range(1, len(config.depths))]


def _import_from(checkout, *names):
    stand_ins = {name: mock.MagicMock() for name in _UNRELATED_MODULES}
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
