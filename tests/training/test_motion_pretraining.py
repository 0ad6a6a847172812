"""The weights that come with `small_data`, and the example that made them."""

import keras
import numpy as np
import pytest

from mvit_tf.data.moving_shapes import DIRECTIONS, write_moving_shapes
from mvit_tf.errors import UserError
from mvit_tf.export.predictor import ModelPredictor
from mvit_tf.models import MViT
from mvit_tf.training.experiments.experiment import load_experiment
from mvit_tf.training.experiments.files import package_configs, package_weights
from mvit_tf.training.storage.initial_weights import initial_weights, load_initial_weights
from mvit_tf.weights_file import load_weights_file
from tests.examples.test_examples import load_example


def test_the_weights_of_the_package_know_motion(tmp_path):
    experiment = load_experiment(package_configs()["moving_shapes"])
    model = MViT(
        experiment.model_config(len(DIRECTIONS)),
        preprocessing=experiment.preprocessing(),
        sampling=experiment.clip_sampling(),
        class_names=sorted(DIRECTIONS),
    )
    load_weights_file(model, package_weights()["small_data"])
    shapes = load_example("motion_pretraining").SHAPES
    write_moving_shapes(tmp_path, videos_per_class=3, seed=77, shapes=shapes)
    videos = sorted(tmp_path.glob("*/*.mp4"))
    said = ModelPredictor(model, num_clips=1).predict_videos(videos)
    right = [video.parent.name == one.top(1)[0][0] for video, one in zip(videos, said, strict=True)]
    assert len(right) == 24 and sum(right) >= 23


def test_small_data_starts_from_them_but_for_the_head():
    experiment = load_experiment(package_configs()["small_data"], "data.train=/videos")
    keras.utils.set_random_seed(3)
    model = MViT(experiment.model_config(5))
    head = model.get_layer("head").get_weights()
    load_initial_weights(model, initial_weights(experiment), reset_head=True)
    held = MViT(experiment.model_config(8))
    load_weights_file(held, package_weights()["small_data"])
    for layer, other in zip(model.layers, held.layers, strict=True):
        expected = head if layer.name == "head" else other.get_weights()
        for one, two in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, two)


def test_another_size_of_the_model_is_told_how_to_start():
    experiment = load_experiment(
        package_configs()["small_data"], "data.train=/videos,model.overrides.embed_dim=16"
    )
    model = MViT(experiment.model_config(5))
    with pytest.raises(UserError, match="model.initial_weights=null,model.reset_head=false$"):
        load_initial_weights(model, initial_weights(experiment), reset_head=True)


@pytest.mark.slow
def test_the_example_writes_what_small_data_takes(tmp_path):
    flags = ["--videos_per_class=2", "--params_override=train.epochs=3,train.devices=1"]
    made = load_example("motion_pretraining").main([str(tmp_path), *flags])
    model = MViT(load_experiment(package_configs()["small_data"]).model_config(8))
    before = model.get_weights()
    load_weights_file(model, made)
    assert (
        sum((one != two).any() for one, two in zip(before, model.get_weights(), strict=True)) > 50
    )
    assert made.stat().st_size == pytest.approx(
        package_weights()["small_data"].stat().st_size, rel=0.01
    )
