"""`mvit convert` and `mvit weights`."""

import argparse
import json

import numpy as np
import pytest

import mvit_tf
from mvit_tf.cli import convert, weights
from mvit_tf.conversion import to_pytorch_state_dict
from mvit_tf.conversion import variant as variant_module
from mvit_tf.errors import UserError
from tests.conversion import references


def run(command, *arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(list(map(str, arguments))))


@pytest.fixture
def small_models(monkeypatch):
    """Named models of the references' size in place of the real ones."""
    configs = {
        "mvit_b_16x4": references.arrays("torchvision_v1")["config"],
        "mvitv2_s_16x4": references.arrays("torchvision_v2")["config"],
        "mvitv2_s": references.arrays("timm")["config"],
    }
    monkeypatch.setattr(variant_module, "list_models", lambda: list(configs))
    for module in (variant_module, convert_module()):
        monkeypatch.setattr(module, "get_config", configs.__getitem__)
    return configs


def convert_module():
    from mvit_tf.conversion import convert as module

    return module


def write_safetensors(path, arrays):
    """A float32 file of the format, without its library."""
    table, end = {}, 0
    for name, values in arrays.items():
        begin, end = end, end + values.nbytes
        table[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    content = b"".join(values.tobytes() for values in arrays.values())
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("torchvision_v1", 'create_model("mvit_b_16x4", weights='),
        ("torchvision_v2", 'create_model("mvitv2_s_16x4", weights='),
        ("timm", 'create_model("mvitv2_s", weights='),
        (
            "timm_class_token",
            "create_model(\"mvitv2_s\", residual_pooling='all', class_token=True, "
            "readout='class_token', weights=",
        ),
        ("mvit_class_token", 'create_model("mvitv2_s", class_token=True, '),
        ("timm_widen_in_mlp", "create_model(\"mvitv2_s\", expand_in='mlp', "),
    ],
)
def test_convert_tells_the_model(small_models, tmp_path, capsys, name, call):
    destination = tmp_path / "model.weights.h5"
    run(convert, references.weights_path(name), destination)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith(call), printed
    assert [path.name for path in tmp_path.iterdir()] == ["model.weights.h5"]
    model = references.build(name)
    model.load_weights(destination)
    stored = references.arrays(name)
    assert references.relative_error(model(stored["frames"]), stored["logits"]) < 1e-5


def test_convert_with_new_classes_and_every_line(small_models, tmp_path, capsys):
    destination = tmp_path / "model.weights.h5"
    source = references.weights_path("torchvision_v1")
    run(convert, source, destination, "--num-classes", 3, "--model", "mvit_b_16x4", "--verbose")
    printed = capsys.readouterr().out
    assert "fresh    head/kernel" in printed
    assert "copied   norm/gamma" in printed and "norm.weight" in printed
    assert "num_classes=3" in printed.splitlines()[-1]
    model = references.build("torchvision_v1", num_classes=3)
    model.load_weights(destination)


def test_convert_gives_a_file_without_a_head_a_fresh_one(small_models, tmp_path, capsys):
    source = tmp_path / "source.safetensors"
    arrays = to_pytorch_state_dict(references.build("torchvision_v1"))
    write_safetensors(
        source, {f"net.{name}": a for name, a in arrays.items() if not name.startswith("head")}
    )
    destination = tmp_path / "model.weights.h5"
    with pytest.raises(UserError, match="has no head; say how many classes.*--num-classes"):
        run(convert, source, destination)
    run(convert, source, destination, "--num-classes", 3)
    assert "fresh    head/kernel" in capsys.readouterr().out
    model = references.build("torchvision_v1", num_classes=3)
    model.load_weights(destination)
    np.testing.assert_array_equal(model.get_layer("norm").gamma, arrays["norm.weight"])


def test_convert_keeps_the_file_s_input_size(small_models, tmp_path, capsys):
    config = small_models["mvit_b_16x4"].replace(input_shape=(8, 48, 48, 3))
    source = mvit_tf.build_mvit(config)
    write_safetensors(tmp_path / "source.safetensors", to_pytorch_state_dict(source))
    run(convert, tmp_path / "source.safetensors", tmp_path / "model.weights.h5")
    assert "input_shape=(8, 48, 48, 3)" in capsys.readouterr().out
    model = mvit_tf.build_mvit(config)
    model.load_weights(tmp_path / "model.weights.h5")
    for expected, variable in zip(source.weights, model.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_convert_refuses(small_models, tmp_path):
    source = references.weights_path("torchvision_v2")
    with pytest.raises(UserError, match="must end in .weights.h5"):
        run(convert, source, tmp_path / "model.h5")
    with pytest.raises(UserError, match="folder of .* does not exist"):
        run(convert, source, tmp_path / "nowhere" / "model.weights.h5")
    with pytest.raises(UserError, match='The file fits create_model."mvitv2_s_16x4"'):
        run(convert, source, tmp_path / "model.weights.h5", "--model", "mvit_b_16x4")
    with pytest.raises(UserError, match="no named model; the nearest is mvitv2_s_16x4"):
        run(
            convert,
            references.weights_path("slowfast_v2_odd_grids"),
            tmp_path / "model.weights.h5",
        )
    assert list(tmp_path.iterdir()) == []


def test_weights_lists_the_table(capsys):
    run(weights)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["model", "set", "top-1", "top-5", "views", "licence"]
    row = next(line for line in printed if line.startswith("mvitv2_l_40x3") and "ssv2" in line)
    assert row.split() == ["mvitv2_l_40x3", "ssv2", "73.3", "94.1", "1x3", "Apache-2.0"]
    assert sum("https://" in line for line in printed) == 20
    run(weights, "mvitv2_h")
    assert "MViTv2_H_in21k.pyth" in capsys.readouterr().out
    with pytest.raises(UserError, match="nobody has published weights for mvit_b_64x3"):
        run(weights, "mvit_b_64x3")
    with pytest.raises(UserError, match="did you mean"):
        run(weights, "mvitv2_hh")
