"""What `import mvit_tf` loads, and that saved models load after it, whichever comes first."""

import subprocess
import sys

import pytest

HEAVY = ("official", "tensorflow_io", "tf_keras", "torch")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light_and_models_need_nothing_heavy():
    loaded = run(
        "import sys, mvit_tf\n"
        "print('tensorflow' in sys.modules)\n"
        "mvit_tf.create_model, mvit_tf.layers, mvit_tf.complexity, mvit_tf.load_pytorch_weights\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert loaded.split("\n")[:2] == ["False", "[]"]


@pytest.mark.parametrize("order", ["import mvit_tf, keras", "import keras, mvit_tf"])
def test_layers_are_registered_in_either_order(order):
    for name in ("MLP", "MViT"):
        registered = f"{order}\nprint(keras.saving.get_registered_object('mvit_tf>{name}').__name__)"
        assert run(registered) == f"{name}\n"


def test_unknown_attribute_is_an_attribute_error():
    import mvit_tf

    with pytest.raises(AttributeError, match="attribute create_modle"):
        mvit_tf.create_modle  # noqa: B018
    assert set(mvit_tf.__all__) <= set(dir(mvit_tf))
    assert all(hasattr(mvit_tf, name) for name in mvit_tf.__all__)
