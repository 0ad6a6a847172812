"""`explain_clip`: the contract, and what it refuses."""

import keras
import numpy as np
import pytest

from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.errors import UserError
from mvit_tf.explain import explain_clip
from mvit_tf.explain.methods import METHODS
from mvit_tf.export.predictor import ModelPredictor
from tests.explain.tiny import CLASS_NAMES, tiny_model


def clip(frames=4, height=40, width=52):
    return np.random.default_rng(3).integers(0, 256, (frames, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return tiny_model("v2")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["v1", "v2", "v2_mean", "image"])
def test_every_method_explains_every_kind_of_model(kind, method):
    model = tiny_model(kind)
    count = 1 if kind == "image" else 4
    explanation = explain_clip(model, clip(count), method=method)
    assert explanation.frames.shape == (count, 32, 32, 3)
    assert explanation.frames.dtype == np.uint8
    assert explanation.heat.shape == (count, 32, 32)
    assert explanation.heat.dtype == np.float32
    assert explanation.heat.min() >= 0 and explanation.heat.max() == 1
    assert explanation.heat.std() > 0.01
    assert explanation.method == method


def test_class_and_probability_are_the_predictors(model):
    frames = clip()
    explanation = explain_clip(model, frames)
    predictor = ModelPredictor(model, num_clips=1)
    shrunk = evaluation_preprocess(frames, model.preprocessing).numpy()
    probabilities = predictor._probabilities(shrunk[np.newaxis])[0]
    assert explanation.class_name == CLASS_NAMES[probabilities.argmax()]
    assert explanation.probability == pytest.approx(probabilities.max(), abs=1e-6)
    other = explain_clip(model, frames, class_index=int(probabilities.argmin()))
    assert other.probability == pytest.approx(probabilities.min(), abs=1e-6)


def test_classes_differ_in_relevance_and_not_in_rollout(model):
    def heat(method, index):
        return explain_clip(model, clip(), method=method, class_index=index).heat

    np.testing.assert_array_equal(heat("rollout", 0), heat("rollout", 1))
    for method in ("relevance", "grad_cam"):
        assert np.abs(heat(method, 0) - heat(method, 1)).max() > 0.1


@pytest.mark.parametrize("method", ["relevance", "grad_cam"])
def test_the_heat_lies_on_the_only_thing_that_can_count(method):
    """Of a model that only pools, and tokens that are zero but where a square is."""
    model = tiny_model("v1_mean")
    zero = ("positions", "class_token", "bias", "beta", "proj/", "fc2")
    for weight in model.weights:
        if any(name in weight.path for name in zero):
            weight.assign(0 * weight)
    # Opposite classes, so that the evidence is for one of them.
    kernel = model.get_layer("head").kernel
    first = keras.ops.convert_to_numpy(kernel)[:, 0]
    kernel.assign(np.stack([first, -first, 0 * first], axis=1))
    model.preprocessing = Preprocessing(size=(32, 32), short_side=32, mean=(0, 0, 0))
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    frames[2, 16:20, 8:12] = 255
    heat = explain_clip(model, frames, method=method).heat
    # Cubes of 3 x 7 x 7 that see the square begin at most so far before it, and end so far after.
    near = np.zeros(heat.shape, bool)
    near[:, 16 - 6 : 20 + 6, 8 - 6 : 12 + 6] = True
    assert heat[near].sum() / heat.sum() > 0.99
    assert np.average(np.arange(32), weights=heat.sum((0, 2))) == pytest.approx(17.5, abs=3)
    assert np.average(np.arange(32), weights=heat.sum((0, 1))) == pytest.approx(9.5, abs=3)


def test_a_longer_clip_is_subsampled_as_the_served_model_does(model):
    frames = clip(10)
    expected = explain_clip(model, frames[[0, 3, 6, 9]])
    found = explain_clip(model, frames)
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_allclose(found.heat, expected.heat)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "rolout"}, "unknown method 'rolout'; did you mean 'rollout'?"),
        ({"class_index": 3}, "class_index=3: must lie between 0 and 2"),
        ({"frames": clip().astype(np.float32)}, "uint8 frames (T, H, W, 3), each axis at least 1"),
        ({"frames": clip()[:, :0]}, "got uint8 (4, 0, 52, 3)"),
        ({"frames": clip()[0]}, "got uint8 (40, 52, 3)"),
        ({"model": keras.Sequential()}, "only a Keras MViT can be explained, not Sequential"),
    ],
)
def test_what_cannot_be_explained_is_refused(model, changes, message):
    arguments = {"model": model, "frames": clip(), **changes}
    with pytest.raises(UserError) as refused:
        explain_clip(arguments.pop("model"), arguments.pop("frames"), **arguments)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_that_does_not_know_its_frames_is_refused():
    model = tiny_model("v1")
    model.preprocessing = None
    with pytest.raises(UserError, match="set model.preprocessing"):
        explain_clip(model, clip())
