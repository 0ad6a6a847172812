"""Frozen blocks: their weights stay bit for bit, and no gradient of theirs is computed."""

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.errors import UserError
from mvit_tf.layers import kernels
from mvit_tf.training import trainer
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.optimization.freezing import freeze_blocks
from mvit_tf.training.storage.initial_weights import load_initial_weights
from tests.training.tiny import arrays, newest_checkpoint, tiny_model, write_config, write_videos


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("freezing")
    return write_config(folder / "tiny.yaml", write_videos(folder / "videos"))


def layers_trained(model):
    return {variable.path.split("/")[0] for variable in model.trainable_variables}


@pytest.mark.parametrize(
    ("number", "trained"),
    [
        (0, {"patch_embed", "class_token", "positions", "block_00", "block_01", "norm", "head"}),
        (1, {"block_01", "norm", "head"}),
        (2, {"norm", "head"}),
    ],
)
def test_what_is_trained(number, trained):
    model = tiny_model()
    freeze_blocks(model, number)
    assert layers_trained(model) == trained


def test_more_blocks_than_there_are_are_refused(config):
    with pytest.raises(UserError, match="cannot freeze 3 blocks of 2: 0 to 2"):
        freeze_blocks(tiny_model(), 3)
    with pytest.raises(UserError, match=r"train.freeze_blocks=3: mvit_s_16x4 has 2 blocks; set 0"):
        load_experiment(config, "train.freeze_blocks=3")


@pytest.mark.parametrize("overrides", ["", "train.remat=true"])
def test_frozen_weights_stay_and_have_no_slots(tmp_path, config, overrides):
    start = tmp_path / "start.weights.h5"
    first = tiny_model(num_classes=8, seed=7)
    first.save_weights(start)
    keys = f"train.freeze_blocks=1,train.epochs=2,model.initial_weights={start},{overrides}"
    trainer.run(
        mode="train", model_dir=tmp_path / "run", config_file=config, overrides=keys.rstrip(",")
    )
    last = newest_checkpoint(tmp_path / "run")
    trained = tiny_model(num_classes=8)
    load_initial_weights(trained, last, reset_head=False)
    for one, two in zip(first.weights, trained.weights, strict=True):
        same = np.array_equal(one, two)
        frozen = one.path.split("/")[0] in ("patch_embed", "class_token", "positions", "block_00")
        assert same == frozen, one.path
    freeze_blocks(trained, 1)
    shapes = sorted([tuple(v.shape) for v in trained.trainable_variables] * 2)
    file = arrays(last)
    slots = [file[name].shape for name in file if name.startswith("optimizer/")]
    assert sorted(shape for shape in slots if shape) == shapes
    # Started again with another number it would be another training.
    with pytest.raises(UserError, match="train.freeze_blocks"):
        trainer.run(mode="train", model_dir=tmp_path / "run", overrides="train.freeze_blocks=0")


@pytest.mark.parametrize("remat", [False, True])
def test_below_the_first_trained_block_no_gradient_is_computed(monkeypatch, remat):
    """Every projection's gradient counts itself: four a block, nine where one block widens."""
    computed = []

    def note(upstream):
        computed.append(upstream.shape)
        return upstream

    def dense(x, kernel, bias, plain=kernels.dense):
        @tf.custom_gradient
        def counted(outputs):
            return tf.identity(outputs), lambda upstream: tf.ensure_shape(
                tf.numpy_function(note, [upstream], tf.float32, stateful=False), outputs.shape
            )

        return counted(plain(x, kernel, bias))

    monkeypatch.setattr(kernels, "dense", dense)
    counts = []
    for number in (0, 1, 2):
        model = tiny_model()
        for block in model.layers:
            if hasattr(block, "remat"):
                block.remat = remat
        freeze_blocks(model, number)
        variables = [variable.value for variable in model.trainable_variables]

        @tf.function
        def step(frames, model=model, variables=variables):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(frames, training=True))
            return tape.gradient(loss, variables)

        computed.clear()
        gradients = step(tf.zeros((2, 4, 32, 32, 3)))
        assert len(gradients) == len(variables) and None not in gradients
        counts.append(len(computed))
    everything, second_block, head = counts
    assert everything > second_block > head == 1
