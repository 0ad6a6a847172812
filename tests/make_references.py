"""Writes `tests/references/`: small models of the PyTorch implementations and what they compute.

    python tests/make_references.py --slowfast CHECKOUT --mvit CHECKOUT

Needs the extra `compare`, and checkouts of facebookresearch/SlowFast (287ec00) and
facebookresearch/mvit (dfbdfdf). The tests read the files without any of them.

A model NAME is NAME.pth, a state dict in half precision, which is exact for these values, and
NAME.npz: config (JSON), frames, logits, and for one model a family loss_weights and the
gradients of sum(logits * loss_weights) under `gradient:` and the parameter's name.
"""

import argparse
import functools
import json
from pathlib import Path

import numpy as np
import torch
import torch_peers

from mvit_tf import MViTConfig

REFERENCES = Path(__file__).parent / "references"

_SMALL = {
    "input_shape": (4, 32, 32, 3),
    "embed_dim": 16,
    "depths": (1, 2),
    "key_stride": (1, 4, 4),
    "num_classes": 7,
}
_V2 = {
    "pool_every_query": True,
    "expand_in": "attention",
    "positions": "none",
    "residual_pooling": "patches",
}
_V2_VIDEO = {**_V2, "relative_positions": "space_time"}
_IMAGE = {
    "input_shape": (32, 32, 3),
    "patch_kernel": (1, 7, 7),
    "patch_stride": (1, 4, 4),
    "patch_padding": (0, 3, 3),
    "pool_kernel": (1, 3, 3),
}
_V2_IMAGE = {**_V2, **_IMAGE, "relative_positions": "space"}
_NO_CLASS_TOKEN = {"class_token": False, "readout": "mean"}

MODELS = {
    "torchvision_v1": ("torchvision", {}),
    "torchvision_v2": ("torchvision", _V2_VIDEO),
    # Tables of max(H, W) rows for both axes.
    "torchvision_v2_wide": ("torchvision", {**_V2_VIDEO, "input_shape": (4, 32, 48, 3)}),
    "pytorchvideo_conv": ("pytorchvideo", {}),
    "pytorchvideo_max": ("pytorchvideo", {"pool_mode": "max"}),
    "pytorchvideo_avg": ("pytorchvideo", {"pool_mode": "avg", "pool_kernel": None}),
    "pytorchvideo_image": ("pytorchvideo", {**_IMAGE, "positions": "joint"}),
    "timm": ("timm", {**_V2_IMAGE, **_NO_CLASS_TOKEN}),
    "timm_widen_in_mlp": ("timm", {**_V2_IMAGE, **_NO_CLASS_TOKEN, "expand_in": "mlp"}),
    "timm_class_token": ("timm", {**_V2_IMAGE, "residual_pooling": "all"}),
    "slowfast_v1_kernel_of_stride": ("slowfast", {"pool_kernel": None}),
    "slowfast_v2": ("slowfast", _V2_VIDEO),
    # Grids of 14, 7 and 4 places, tables for 14, 7 and 3: interpolated on every forward pass.
    "slowfast_v2_odd_grids": (
        "slowfast",
        {**_V2_VIDEO, "input_shape": (4, 56, 56, 3), "depths": (1, 1, 1), "embed_dim": 8},
    ),
    "slowfast_v2_mean_before_norm": (
        "slowfast",
        {**_V2_VIDEO, "expand_in": "mlp", "readout": "mean_before_norm"},
    ),
    "slowfast_v2_image": ("slowfast", {**_V2_IMAGE, **_NO_CLASS_TOKEN}),
    "mvit_class_token": ("mvit", _V2_IMAGE),
}
_WITH_GRADIENTS = ("torchvision_v2", "pytorchvideo_conv", "timm", "slowfast_v2")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slowfast", required=True, help="checkout of facebookresearch/SlowFast")
    parser.add_argument("--mvit", required=True, help="checkout of facebookresearch/mvit")
    arguments = parser.parse_args()
    REFERENCES.mkdir(exist_ok=True)
    builders = {
        "torchvision": torch_peers.torchvision_model,
        "pytorchvideo": torch_peers.pytorchvideo_model,
        "timm": torch_peers.timm_model,
        "slowfast": functools.partial(torch_peers.slowfast_model, checkout=arguments.slowfast),
        "mvit": functools.partial(torch_peers.mvit_model, checkout=arguments.mvit),
    }
    for name, (family, fields) in MODELS.items():
        write_model(name, builders[family], MViTConfig(**{**_SMALL, **fields}))
    write_reader_files()
    write_interpolations()


def write_model(name, build, config):
    """One model's weights, input, output and gradients."""
    torch.manual_seed(0)
    model = torch_peers.perturb(build(config), seed=1)
    frames = torch_peers.random_frames(config)
    with torch.no_grad():
        logits = torch_peers.forward(model, frames).numpy()
    arrays = {
        "config": json.dumps(config.to_dict()),
        "frames": frames.astype(np.float16),
        "logits": logits,
    }
    if name in _WITH_GRADIENTS:
        loss_weights = torch_peers.random_loss_weights(config)
        arrays["loss_weights"] = loss_weights
        gradients = torch_peers.loss_gradients(model, frames, loss_weights)
        arrays |= {f"gradient:{key}": values for key, values in gradients.items()}
    np.savez_compressed(REFERENCES / f"{name}.npz", **arrays)
    torch.save(
        {key: values.half() for key, values in model.state_dict().items()},
        REFERENCES / f"{name}.pth",
    )


def write_reader_files():
    """Files of the formats that the reader knows, and what they hold."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    tensors = {
        "float": base,
        "double": base.double(),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "integers": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "transposed": base.t(),
        "part": base[1:3, 2:5],
        "strided": base[:, ::2],
        "parameter": torch.nn.Parameter(base[0].clone()),
    }
    checkpoint = {
        "epoch": 3,
        "model_state": torch.nn.Module().state_dict() | tensors,
        "optimizer_state": {
            "state": {0: {"step": 1, "exp_avg": base}},
            "param_groups": [{"lr": 0.1}],
        },
        "cfg": "MVIT:\n  DEPTH: 16\n",
        "shape": base.shape,
    }
    expected = {key: values.detach().float().numpy() for key, values in tensors.items()}
    expected["integers"] = tensors["integers"].numpy()
    torch.save(checkpoint, REFERENCES / "reader.pyth")
    torch.save(tensors, REFERENCES / "reader_legacy.pth", _use_new_zipfile_serialization=False)
    # safetensors refuses tensors that share memory.
    save_file(
        {key: values.detach().clone().contiguous() for key, values in tensors.items()},
        REFERENCES / "reader.safetensors",
        metadata={"format": "pt"},
    )
    np.savez_compressed(REFERENCES / "reader.npz", **expected)


def write_interpolations():
    """PyTorch's bicubic and linear interpolation, up and down, of tables (places, channels)."""
    generator = torch.Generator().manual_seed(0)
    resize = torch.nn.functional.interpolate
    arrays = {}
    for source, target in (((7, 7), (4, 5)), ((5, 6), (9, 14)), ((14, 14), (20, 20))):
        table = torch.randn(source[0] * source[1], 3, generator=generator)
        places = table.reshape(1, *source, 3).permute(0, 3, 1, 2)
        resized = resize(places, size=target, mode="bicubic", align_corners=False)
        key = f"bicubic:{source[0]},{source[1]}:{target[0]},{target[1]}"
        arrays[f"{key}:table"] = table.numpy()
        arrays[f"{key}:resized"] = resized.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    for source, target in ((8, 4), (8, 20), (27, 39), (1, 4)):
        table = torch.randn(source, 3, generator=generator)
        resized = resize(table.t()[None], size=target, mode="linear", align_corners=False)
        arrays[f"linear:{source}:{target}:table"] = table.numpy()
        arrays[f"linear:{source}:{target}:resized"] = resized[0].t().numpy()
    np.savez_compressed(REFERENCES / "interpolation.npz", **arrays)


if __name__ == "__main__":
    main()
