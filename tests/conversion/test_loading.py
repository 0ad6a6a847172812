"""Strictness: nothing is dropped, nothing stays unset, and a failed load changes nothing."""

import zipfile

import keras
import numpy as np
import pytest

import mvit_tf
from mvit_tf.conversion import load_pytorch_weights, to_pytorch_state_dict
from mvit_tf.errors import UserError
from tests.conversion import references

V1 = references.arrays("torchvision_v1")["config"]
V2 = references.arrays("torchvision_v2")["config"]


def refusal(model, source, **options):
    """The message of a refused load, which must leave the model as it was."""
    before = [variable.numpy().copy() for variable in model.weights]
    with pytest.raises(UserError) as caught:
        load_pytorch_weights(model, source, **options)
    for variable, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, values)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_report_names_every_tensor_and_variable():
    model = mvit_tf.build_mvit(V1)
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    report = load_pytorch_weights(model, source)
    assert [entry.path for entry in report.placements] == [w.path for w in model.weights]
    assert sorted(name for entry in report.placements for name in entry.names) == sorted(source)
    assert str(report) == "state dict (slowfast layout): 69 variables, 69 copied"
    assert len(report.table().splitlines()) == 69
    assert "copied   block_00/attn/qkv/kernel" in report.table()


def test_missing_and_unknown_tensors_are_both_listed():
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    del source["blocks.1.norm2.weight"], source["norm.bias"]
    source["blocks.1.gamma_1"] = np.zeros(32, np.float32)
    message = refusal(mvit_tf.build_mvit(V1), source)
    assert "lacks 2 of the model's 69 variables (block_01/norm2/gamma, norm/beta)" in message
    assert "no place for 1 of its tensors (blocks.1.gamma_1)" in message


def test_wrong_depth_is_named():
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1.replace(depths=(2, 3))))
    message = refusal(mvit_tf.build_mvit(V1), source)
    assert "it lacks 5 of the model's 69 variables (block_00/proj_mlp/kernel, " in message
    assert "(blocks.1.proj.weight, blocks.1.proj.bias, blocks.2.attn.pool_q.weight, " in message
    assert "depth 5 against 3; blocks per stage 2, 3 against 1, 2" in message


def test_file_of_another_named_model_is_named():
    """A SlowFast file of 24 blocks and kernels of stride + 1, given to the 16-block model."""
    config = mvit_tf.get_config("mvit_b24_32x3_slowfast").replace(num_classes=3)
    shapes = {v.path: v.shape for v in mvit_tf.build_mvit(config).weights}
    values = {path: np.broadcast_to(np.float32(0), shape) for path, shape in shapes.items()}
    from mvit_tf.conversion import slowfast

    source = {
        name: np.broadcast_to(np.float32(0), array.shape)
        for name, array in slowfast.to_pytorch(values, image=False).items()
    }
    with pytest.raises(UserError) as caught:
        load_pytorch_weights(mvit_tf.create_model("mvit_b_16x4"), source)
    assert "depth 24 against 16" in str(caught.value)
    assert 'The file fits create_model("mvit_b24_32x3_slowfast")' in str(caught.value)


def test_missing_pools_of_an_old_file_are_named():
    """A file without key and value pooling where their stride is 1, as one of 2021 has it."""
    model = mvit_tf.build_mvit(V1)
    source = {
        name: values
        for name, values in to_pytorch_state_dict(model).items()
        if not name.startswith(("blocks.2.attn.pool_k", "blocks.2.attn.pool_v"))
        and not name.startswith(("blocks.2.attn.norm_k", "blocks.2.attn.norm_v"))
    }
    message = refusal(model, source)
    assert "key pooling in blocks 0, 1 against 0, 1, 2" in message
    assert "value pooling in blocks 0, 1 against 0, 1, 2" in message


def test_other_variant_and_unknown_files_are_refused():
    message = refusal(mvit_tf.build_mvit(V1), to_pytorch_state_dict(mvit_tf.build_mvit(V2)))
    assert "query pooling in blocks 0, 1, 2 against 1" in message
    assert "expand in attention against mlp" in message
    assert "absolute positions none against separate" in message
    message = refusal(mvit_tf.build_mvit(V1), {"conv1.weight": np.zeros((64, 3, 7, 7))})
    assert "not the weights of an MViT" in message and "they begin conv1.weight" in message
    with pytest.raises(UserError, match="not a model of mvit_tf.create_model"):
        load_pytorch_weights(keras.Sequential([keras.layers.Input((3,))]), {})
    with pytest.raises(UserError, match="head must be one of"):
        load_pytorch_weights(mvit_tf.build_mvit(V1), {}, head="none")
    with pytest.raises(UserError, match="inflation must be one of"):
        load_pytorch_weights(mvit_tf.build_mvit(V1), {}, inflation="sum")


def test_head_of_other_classes_is_left_fresh():
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    model = mvit_tf.build_mvit(V1.replace(num_classes=3))
    head = model.get_layer("head").kernel.numpy().copy()
    report = load_pytorch_weights(model, source)
    assert report.fresh == ("head/kernel", "head/bias")
    assert report.unused == ("head.projection.weight", "head.projection.bias")
    assert "fresh    head/kernel" in str(report) and "left out head.projection.bias" in str(report)
    np.testing.assert_array_equal(model.get_layer("head").kernel, head)
    np.testing.assert_array_equal(model.get_layer("norm").gamma, source["norm.weight"])

    message = refusal(mvit_tf.build_mvit(V1.replace(num_classes=3)), source, head="load")
    assert "the file has 7 classes; build the model with num_classes=7" in message


def test_head_can_be_left_fresh_or_missing():
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    model = mvit_tf.build_mvit(V1)
    assert load_pytorch_weights(model, source, head="fresh").fresh == ("head/kernel", "head/bias")
    headless = {name: values for name, values in source.items() if not name.startswith("head")}
    assert load_pytorch_weights(model, headless, head="fresh").unused == ()
    message = refusal(model, headless)
    assert "lacks 2" in message
    assert "the file has no head; load_pytorch_weights(model, source, head='fresh')" in message


def test_a_model_without_a_head_takes_the_rest():
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    model = mvit_tf.build_mvit(V1.replace(num_classes=0))
    report = load_pytorch_weights(model, source)
    assert report.unused == ("head.projection.weight", "head.projection.bias")
    np.testing.assert_array_equal(model.get_layer("norm").gamma, source["norm.weight"])


def test_a_file_that_fails_in_the_middle_changes_nothing(tmp_path):
    """A storage of the archive is damaged; names, shapes and all the rest are whole."""
    path = tmp_path / "damaged.pth"
    content = bytearray(references.weights_path("torchvision_v1").read_bytes())
    with zipfile.ZipFile(references.weights_path("torchvision_v1")) as archive:
        storages = [info for info in archive.infolist() if "/data/" in info.filename]
        last = max(storages, key=lambda info: info.header_offset)
        content[content.index(archive.read(last), last.header_offset)] ^= 0xFF
    path.write_bytes(content)
    assert "damaged" in refusal(references.build("torchvision_v1"), path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_name(value):
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    source["norm.bias"] = np.full_like(source["norm.bias"], value)
    message = refusal(mvit_tf.build_mvit(V1), source)
    assert "not finite, in norm.bias (norm/beta of the model)" in message


def prefixed(prefix, source):
    return {f"{prefix}{name}": values for name, values in source.items()}


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "backbone.", "a.b.encoder."])
@pytest.mark.parametrize("layout", ["slowfast", "torchvision", "pytorchvideo"])
def test_any_prefix_is_found_with_a_loss_beside(layout, prefix):
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1), layout)
    model = mvit_tf.build_mvit(V1)
    report = load_pytorch_weights(
        model, {**prefixed(prefix, source), "criterion.pos_weight": np.ones(7)}
    )
    assert (report.layout, report.fresh, report.unused) == (layout, (), ())
    assert report.beside == ("criterion.pos_weight",)
    assert "unused, beside the model: criterion.pos_weight" in str(report)
    norm = next(name for name in source if name in ("norm.weight", "norm_embed.weight"))
    np.testing.assert_array_equal(model.get_layer("norm").gamma, source[norm])


def test_below_a_prefix_nothing_is_dropped():
    source = prefixed("model.", to_pytorch_state_dict(mvit_tf.build_mvit(V1)))
    source["model.blocks.1.gamma_1"] = np.zeros(32, np.float32)
    assert "no place for 1 of its tensors" in refusal(mvit_tf.build_mvit(V1), source)


@pytest.mark.parametrize("names", [("student.", "teacher."), ("model.", "model_ema.")])
def test_of_two_models_one_must_be_chosen(names):
    first, second = (to_pytorch_state_dict(mvit_tf.build_mvit(V1)) for _ in names)
    second["norm.weight"] = second["norm.weight"] + 1
    source = {**prefixed(names[0], first), **prefixed(names[1], second)}
    model = mvit_tf.build_mvit(V1)
    message = refusal(model, source)
    assert "it holds 2 models" in message
    assert all(repr(name) in message for name in names) and "prefix=" in message
    for name, chosen in zip(names, (first, second), strict=True):
        report = load_pytorch_weights(model, source, prefix=name)
        assert len(report.beside) == len(first)
        np.testing.assert_array_equal(model.get_layer("norm").gamma, chosen["norm.weight"])
    assert "under the prefix 'ema.'" in refusal(model, source, prefix="ema")


@pytest.mark.parametrize(
    ("name", "wrong", "cure"),
    [
        ("timm_class_token", "patches", "all"),
        ("slowfast_v2", "all", "patches"),
        ("mvit_class_token", "all", "patches"),
    ],
)
def test_residual_pooling_at_the_class_token_must_be_the_source_s(name, wrong, cure):
    model = references.build(name, residual_pooling=wrong)
    message = refusal(model, references.weights_path(name))
    assert f"build the model with residual_pooling={cure!r}" in message


def test_skip_paths_must_be_the_source_s():
    model = references.build("slowfast_v2", normalized_skip=False)
    message = refusal(model, references.weights_path("slowfast_v2"))
    assert "build the model with normalized_skip=True" in message


def test_state_dicts_of_torch_tensors_and_half_precision_are_taken():
    class Tensor:
        """What is used of a torch tensor."""

        def __init__(self, values):
            self.values, self.shape = values, values.shape

        def detach(self):
            return self

        float = cpu = detach

        def is_floating_point(self):
            return True

        def numpy(self):
            return self.values

    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    model = mvit_tf.build_mvit(V1)
    load_pytorch_weights(model, {name: Tensor(values) for name, values in source.items()})
    np.testing.assert_array_equal(model.get_layer("norm").gamma, source["norm.weight"])
    load_pytorch_weights(model, {name: values.astype("f2") for name, values in source.items()})
    np.testing.assert_array_equal(
        model.get_layer("norm").gamma, source["norm.weight"].astype("f2").astype("f4")
    )
