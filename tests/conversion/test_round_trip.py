"""Keras to PyTorch to Keras, bit for bit, in every layout that is written."""

import numpy as np
import pytest

import mvit_tf
from mvit_tf.conversion import load_pytorch_weights, to_pytorch_state_dict
from mvit_tf.errors import UserError
from tests.conversion import references

SMALL = references.arrays("torchvision_v1")["config"]
VIDEO_V2 = references.arrays("torchvision_v2")["config"]
IMAGE_V1 = references.arrays("pytorchvideo_image")["config"]
IMAGE_V2 = references.arrays("timm")["config"]
CASES = [
    ("slowfast", SMALL),
    ("slowfast", VIDEO_V2),
    ("slowfast", VIDEO_V2.replace(expand_in="mlp", readout="mean_before_norm")),
    ("slowfast", SMALL.replace(input_shape=(4, 32, 48, 3), qkv_bias=False)),
    ("slowfast", IMAGE_V2),
    ("slowfast", IMAGE_V1),
    ("torchvision", SMALL),
    ("torchvision", VIDEO_V2),
    ("torchvision", VIDEO_V2.replace(residual_pooling="all")),
    ("pytorchvideo", SMALL),
    ("pytorchvideo", SMALL.replace(pool_mode="max")),
    ("pytorchvideo", SMALL.replace(class_token=False, readout="mean")),
    ("pytorchvideo", IMAGE_V1),
    ("timm", IMAGE_V2),
    ("timm", IMAGE_V2.replace(expand_in="mlp", depths=(2, 1, 2))),
    ("timm", IMAGE_V2.replace(class_token=True, residual_pooling="all")),
]


def moved(config):
    """A model with every weight away from its initial value."""
    model = mvit_tf.build_mvit(config)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(variable + rng.standard_normal(variable.shape))
    return model


@pytest.mark.parametrize(("layout", "config"), CASES)
def test_identity(layout, config):
    model = moved(config)
    state_dict = to_pytorch_state_dict(model, layout)
    assert all(values.flags.c_contiguous for values in state_dict.values())
    fresh = mvit_tf.build_mvit(config)
    report = load_pytorch_weights(fresh, state_dict)
    assert report.layout == layout
    assert {entry.action for entry in report.placements} == {"copied"}
    for expected, variable in zip(model.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(variable, expected, err_msg=variable.path)


@pytest.mark.parametrize("name", ["torchvision_v2", "pytorchvideo_image", "timm", "slowfast_v2"])
def test_what_is_written_is_what_was_read(name):
    """PyTorch to Keras to PyTorch: every name, shape and value of the original file."""
    from mvit_tf.conversion.checkpoint_files import read_checkpoint

    model = references.build(name)
    load_pytorch_weights(model, references.weights_path(name))
    written = to_pytorch_state_dict(model, name.split("_")[0])
    source = read_checkpoint(references.weights_path(name))
    assert set(written) == set(source)
    for key, tensor in source.items():
        assert written[key].shape == tensor.shape, key
        np.testing.assert_array_equal(written[key], tensor.read(), err_msg=key)


def test_pytorchvideo_pools_under_two_names():
    """Releases after 0.1.5 register each pooling twice; a file in which they differ is refused."""
    model = moved(SMALL)
    state_dict = to_pytorch_state_dict(model, "pytorchvideo")
    for name in list(state_dict):
        for letter in "qkv":
            for part in ("pool", "norm"):
                inner = name.replace(
                    f".attn.{part}_{letter}.", f".attn._attention_pool_{letter}.{part}."
                )
                state_dict[inner] = state_dict[name].copy()
    assert len(state_dict) > len(model.weights)
    fresh = mvit_tf.build_mvit(SMALL)
    load_pytorch_weights(fresh, state_dict)
    for expected, variable in zip(model.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)

    state_dict["blocks.1.attn._attention_pool_q.pool.weight"][0] += 1
    with pytest.raises(UserError, match="should hold the same values"):
        load_pytorch_weights(fresh, state_dict)


@pytest.mark.parametrize("layout", ["slowfast", "pytorchvideo"])
@pytest.mark.parametrize("separate", [True, False])
def test_fused_and_separate_projections(layout, separate):
    model = moved(SMALL)
    state_dict = {}
    for name, values in to_pytorch_state_dict(model, "slowfast").items():
        if separate and ".attn.qkv." in name:
            for letter, part in zip("qkv", np.split(values, 3), strict=True):
                state_dict[name.replace(".qkv.", f".{letter}.")] = part
        else:
            state_dict[name] = values
    if layout == "pytorchvideo":
        renamed = {"patch_embed.proj": "patch_embed.patch_model", "head.projection": "head.proj"}
        for old, new in renamed.items():
            state_dict = {key.replace(old, new): values for key, values in state_dict.items()}
        state_dict = {
            f"cls_positional_encoding.{key}" if key.startswith(("cls_", "pos_")) else key: values
            for key, values in state_dict.items()
        }
        state_dict["norm_embed.weight"] = state_dict.pop("norm.weight")
        state_dict["norm_embed.bias"] = state_dict.pop("norm.bias")
    fresh = mvit_tf.build_mvit(SMALL)
    assert load_pytorch_weights(fresh, state_dict).layout == layout
    for expected, variable in zip(model.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(variable, expected, err_msg=variable.path)


def test_wrapped_names():
    model = moved(SMALL)
    wrapped = {
        f"module._orig_mod.{name}": values for name, values in to_pytorch_state_dict(model).items()
    }
    report = load_pytorch_weights(mvit_tf.build_mvit(SMALL), wrapped)
    assert "module._orig_mod.norm.weight" in report.placements[-4].names


@pytest.mark.parametrize(
    ("layout", "config", "reason"),
    [
        ("torchvision", IMAGE_V2, "image models, no models without a class token"),
        ("torchvision", VIDEO_V2.replace(input_shape=(4, 32, 48, 3)), "not square"),
        ("pytorchvideo", VIDEO_V2, "relative positions"),
        ("timm", SMALL, "video models"),
        ("timm", VIDEO_V2, "can be written as slowfast, torchvision"),
        ("slowfast", VIDEO_V2.replace(residual_pooling="all"), "residual_pooling='patches'"),
        ("slowfast", SMALL.replace(normalized_skip=False), "normalized_skip=False: the same"),
        ("caffe", SMALL, "must be one of slowfast, torchvision, pytorchvideo, timm"),
    ],
)
def test_a_layout_without_such_a_model_is_refused(layout, config, reason):
    with pytest.raises(UserError, match=reason):
        to_pytorch_state_dict(mvit_tf.build_mvit(config), layout)
