"""Writes `tests/references/slowfast_training_*.npz`: what SlowFast's own training loop computes.

    python tests/make_training_references.py --slowfast CHECKOUT

Needs the extra `compare` with fvcore and iopath, and a checkout of facebookresearch/SlowFast
(287ec00). Runs `train_epoch` of its tools/train_net.py, with its optimizer, learning rates, MixUp,
CutMix and soft targets, on small models without dropout. The tests replay it without any of them.
The cross-entropy of soft targets is of PyTorch: SlowFast's lies in a part of pytorchvideo that was
never released; of targets that are not normalised it is the same.

A training NAME is slowfast_training_NAME.npz: config and recipe (JSON), the batches before they
are mixed as `frames_seed`, `labels` (steps, B) and by step what mixed them, `mix_weight` and
`mix_box` (top, bottom, left, right; -1 for MixUp), the mixed and smoothed `targets`, the `losses`,
`learning_rates` and `gradient_norms`; the initial weights, exact in half precision, under
`initial:` and the parameter's name, their change in training under `change:`, and each one's
share of the learning rate, `layer_decay`, and weight decay under `rate:` and `decay:`.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch_peers

from mvit_tf import MViTConfig

REFERENCES = Path(__file__).parent / "references"
EPOCHS, STEPS, BATCH = 4, 5, 4

_SMALL = {
    "input_shape": (4, 32, 32, 3),
    "embed_dim": 8,
    "depths": (1, 1),
    "key_stride": (1, 4, 4),
    "num_classes": 5,
}
_MODELS = {
    "v1": _SMALL,
    "v2": {
        **_SMALL,
        "pool_every_query": True,
        "expand_in": "attention",
        "positions": "none",
        "residual_pooling": "patches",
        "relative_positions": "space_time",
    },
}
_ADAMW = {
    "OPTIMIZING_METHOD": "adamw",
    "BASE_LR": 2e-3,
    "WARMUP_START_LR": 1e-4,
    "COSINE_END_LR": 1e-5,
    "WEIGHT_DECAY": 0.05,
}
_SGD = {
    "OPTIMIZING_METHOD": "sgd",
    "BASE_LR": 0.2,
    "WARMUP_START_LR": 0.01,
    "COSINE_END_LR": 1e-3,
    "WEIGHT_DECAY": 1e-2,
}
# Name -> model and SOLVER. The papers' own recipes, on faster schedules.
TRAININGS = {
    "v1_adamw": ("v1", _ADAMW),
    "v1_sgd": ("v1", _SGD),
    "v2_adamw": ("v2", _ADAMW),
    "v2_layer_decay": ("v2", {**_ADAMW, "LAYER_DECAY": 0.75}),
}
# What tools/train_net.py imports that a training step of a classifier does not use.
_UNRELATED_MODULES = (
    "slowfast.datasets.loader",
    "slowfast.models.contrastive",
    "slowfast.utils.checkpoint",
    "slowfast.utils.distributed",
    "slowfast.utils.logging",
    "slowfast.utils.meters",
    "slowfast.utils.misc",
    "slowfast.utils.multigrid",
    "slowfast.visualization",
    "slowfast.visualization.tensorboard_vis",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slowfast", required=True, help="checkout of facebookresearch/SlowFast")
    checkout = parser.parse_args().slowfast
    for name, (model, solver) in TRAININGS.items():
        config = MViTConfig(**_MODELS[model])
        arrays = reference_training(config, solver, checkout)
        path = REFERENCES / f"slowfast_training_{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name}: {path.stat().st_size:,} bytes, losses {arrays['losses'][[0, -1]]}")


def reference_training(config, solver, checkout):
    """The arrays of one training."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch_peers.perturb(torch_peers.slowfast_model(config, checkout), seed=1)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    model.cfg.MVIT.ZERO_DECAY_POS_CLS = False  # as in all of SlowFast's files of MViT
    initial = _named_values(model)
    cfg = _recipe(config, solver, checkout)
    train_net = _train_net(checkout)
    optimizer = train_net.optim.construct_optimizer(model, cfg)
    frames_seed, meter, mixes = 7, _Meter(), []
    frames = np.random.RandomState(frames_seed)
    labels = np.random.RandomState(8).randint(config.num_classes, size=(EPOCHS * STEPS, BATCH))
    np.random.seed(9)  # of what MixUp draws
    patches = (
        mock.patch.object(train_net.MixUp, "_mix_batch", _noted_mix(train_net, mixes)),
        mock.patch.object(train_net.MixUp, "__call__", _noted_targets(train_net, mixes)),
        mock.patch.object(torch.cuda, "synchronize"),
    )
    with patches[0], patches[1], patches[2]:
        train_net.contrastive_parameter_surgery = lambda model, *_: (model, True)
        for epoch in range(EPOCHS):
            of_epoch = labels[epoch * STEPS : (epoch + 1) * STEPS]
            batches = [(draw_frames(frames, config), of_step) for of_step in of_epoch]
            loader = [_as_slowfast_loads(*batch) for batch in batches]
            scaler = torch.amp.GradScaler("cuda", enabled=False)
            train_net.train_epoch(loader, model, optimizer, scaler, meter, epoch, cfg)
    groups = {
        id(parameter): group for group in optimizer.param_groups for parameter in group["params"]
    }
    trained = _named_values(model)
    arrays = {
        "config": json.dumps(config.to_dict()),
        "recipe": json.dumps(
            {**solver, "epochs": EPOCHS, "steps": STEPS, "batch": BATCH, "warmup_epochs": 1}
        ),
        "frames_seed": frames_seed,
        "labels": labels,
        "mix_weight": np.array([mix["weight"] for mix in mixes]),
        "mix_box": np.array([mix["box"] for mix in mixes]),
        "targets": np.array([mix["targets"] for mix in mixes], np.float32),
        "losses": np.array(meter.losses),
        "learning_rates": np.array(meter.learning_rates),
        "gradient_norms": np.array(meter.gradient_norms),
    }
    for name, parameter in model.named_parameters():
        arrays[f"initial:{name}"] = initial[name].astype(np.float16)
        arrays[f"change:{name}"] = trained[name] - initial[name]
        arrays[f"rate:{name}"] = groups[id(parameter)]["layer_decay"]
        arrays[f"decay:{name}"] = groups[id(parameter)]["weight_decay"]
    return arrays


def draw_frames(random, config):
    """One batch (B, T, H, W, 3) before it is mixed, float32."""
    return random.standard_normal((BATCH, *config.input_size, 3)).astype(np.float32)


def _recipe(config, solver, checkout):
    (defaults,) = torch_peers.import_from(checkout, "slowfast.config.defaults")
    cfg = defaults.get_cfg()
    cfg.NUM_GPUS = 0
    cfg.MODEL.NUM_CLASSES = config.num_classes
    cfg.MODEL.LOSS_FUNC = "soft_cross_entropy"
    cfg.MVIT.DEPTH = sum(config.depths)
    # As in SlowFast's files of MViT for Kinetics.
    cfg.MIXUP.ENABLE = True
    cfg.SOLVER.ZERO_WD_1D_PARAM = True
    cfg.SOLVER.CLIP_GRAD_L2NORM = 1.0
    cfg.SOLVER.COSINE_AFTER_WARMUP = True
    cfg.SOLVER.MAX_EPOCH = EPOCHS
    cfg.SOLVER.WARMUP_EPOCHS = 1.0
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


def _train_net(checkout):
    """The module of SlowFast's tools/train_net.py."""
    spec = importlib.util.spec_from_file_location(
        "train_net", Path(checkout) / "tools/train_net.py"
    )
    module = importlib.util.module_from_spec(spec)
    stand_ins = {name: mock.MagicMock() for name in _UNRELATED_MODULES}
    # Their parents' own imports ask for more packages; of these only what is named is used.
    for parent in ("datasets", "models"):
        package = type(sys)(f"slowfast.{parent}")
        package.__path__ = [str(Path(checkout) / "slowfast" / parent)]
        stand_ins[package.__name__] = package
    stand_ins["slowfast.datasets"].loader = stand_ins["slowfast.datasets.loader"]
    stand_ins["slowfast.models"].build_model = None
    losses = type(sys)("pytorchvideo.losses.soft_target_cross_entropy")
    losses.SoftTargetCrossEntropyLoss = _soft_target_cross_entropy
    stand_ins |= {losses.__name__: losses, "pytorchvideo.losses": mock.MagicMock()}
    sys.path.insert(0, str(checkout))
    try:
        with mock.patch.dict(sys.modules, stand_ins):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(checkout))
    return module


def _soft_target_cross_entropy(*, reduction, normalize_targets):
    if normalize_targets:
        raise ValueError("targets are shares of classes already")
    return torch.nn.CrossEntropyLoss(reduction=reduction)


def _noted_mix(train_net, mixes):
    """`MixUp._mix_batch`, and a note in `mixes` of what it does."""
    mix_batch = train_net.MixUp._mix_batch
    names = mix_batch.__globals__
    draw_box = names["get_cutmix_bbox"]

    def noted(self, clips):
        boxes = [(-1, -1, -1, -1)]

        def noted_box(*args, **kwargs):
            box, weight = draw_box(*args, **kwargs)
            boxes.append(tuple(int(edge) for edge in box))
            return box, weight

        with mock.patch.dict(names, get_cutmix_bbox=noted_box):
            weight = mix_batch(self, clips)
        mixes.append({"weight": weight, "box": boxes[-1]})
        return weight

    return noted


def _noted_targets(train_net, mixes):
    """`MixUp.__call__`, and a note in `mixes` of its targets."""
    call = train_net.MixUp.__call__

    def noted(self, clips, labels):
        clips, targets = call(self, clips, labels)
        mixes[-1]["targets"] = targets.numpy().copy()
        return clips, targets

    return noted


def _as_slowfast_loads(frames, labels):
    clips = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, 1)))
    return [clips], torch.from_numpy(labels), None, None, {}


def _named_values(model):
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


class _Meter:
    """In place of SlowFast's TrainMeter: keeps the figures of each step."""

    def __init__(self):
        self.losses, self.learning_rates, self.gradient_norms = [], [], []

    def update_stats(self, top1_err, top5_err, loss, lr, grad_norm, *_):
        self.losses.append(loss)
        self.learning_rates.append(lr)
        self.gradient_norms.append(grad_norm)

    def __getattr__(self, name):
        return lambda *_: None


if __name__ == "__main__":
    main()
