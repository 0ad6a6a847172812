"""Starting from trained weights: every kind of source, strictly, and of the weights alone."""

import numpy as np
import pytest

from mvit_tf.conversion import to_pytorch_state_dict
from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress
from mvit_tf.training.storage.initial_weights import initial_weights, load_initial_weights
from mvit_tf.weights_file import save_weights_file
from tests.conversion.test_commands import write_safetensors
from tests.training.tiny import tiny_model


@pytest.fixture(scope="module")
def trained():
    return tiny_model(seed=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory, trained):
    """The same weights in every form."""
    folder = tmp_path_factory.mktemp("sources")
    CheckpointStore(folder / "run" / "checkpoints").save(trained, Progress(1, 1, 0.5, 1.0))
    trained.save_weights(folder / "plain.weights.h5")
    save_weights_file(trained, folder / "own.weights.h5")
    write_safetensors(folder / "pytorch.safetensors", to_pytorch_state_dict(trained))
    return folder


@pytest.mark.parametrize(
    "source",
    ["run", "run/checkpoints", "plain.weights.h5", "own.weights.h5", "pytorch.safetensors"],
)
@pytest.mark.parametrize("reset_head", [False, True])
def test_every_source_gives_the_same_weights(sources, trained, source, reset_head):
    model = tiny_model(num_classes=5 if reset_head else 3, seed=2)
    head = model.get_layer("head").get_weights()
    if reset_head:
        with pytest.raises(UserError, match="3 classes"):
            load_initial_weights(model, sources / source, reset_head=False)
    load_initial_weights(model, sources / source, reset_head=reset_head)
    for layer, other in zip(model.layers, trained.layers, strict=True):
        expected = head if reset_head and layer.name == "head" else other.get_weights()
        for one, two in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-6)


def test_what_holds_no_weights_is_named(tmp_path):
    model = tiny_model()
    with pytest.raises(UserError, match="absent does not exist"):
        load_initial_weights(model, tmp_path / "absent", reset_head=False)
    (tmp_path / "notes.txt").write_text("not weights")
    with pytest.raises(UserError, match="notes.txt"):
        load_initial_weights(model, tmp_path / "notes.txt", reset_head=False)
    with pytest.raises(UserError, match="holds no checkpoint best.weights.h5"):
        load_initial_weights(model, tmp_path, reset_head=False)


def test_a_file_on_an_object_store_is_no_published_set():
    experiment = load_experiment(None, "model.initial_weights='gs://bucket/x.weights.h5'")
    assert initial_weights(experiment) == "gs://bucket/x.weights.h5"


def test_another_interpolation_than_a_published_sets_is_warned_of(caplog):
    keys = (
        "model.name=mvitv2_t,model.initial_weights=imagenet1k,data.evaluation_clips=1,"
        "data.mean=[0.485,0.456,0.406],data.std=[0.229,0.224,0.225]"
    )
    initial_weights(load_experiment(None, f"{keys},data.interpolation=bicubic"))
    assert not caplog.records
    assert initial_weights(load_experiment(None, keys)).set == "imagenet1k"
    assert "by data.interpolation=bicubic; here it is bilinear" in caplog.text
