import keras
import numpy as np
import pytest
import tensorflow as tf

import mvit_tf
from mvit_tf.conversion import load_pytorch_weights
from mvit_tf.conversion.layouts import find_model
from mvit_tf.conversion.tensors import as_tensor
from mvit_tf.errors import UserError
from mvit_tf.pretraining.geometry import mask_window, prediction_grid
from mvit_tf.pretraining.hog import hog_targets
from mvit_tf.pretraining.maskfeat import MaskedMeanSquaredError, MaskFeat, with_mask
from tests.conversion.references import gradient_error, relative_error
from tests.pretraining.reference import named, stored

MVITV2_S = mvit_tf.get_config("mvitv2_s_16x4")


def test_predictions_loss_and_gradients_are_those_of_slowfast():
    reference = stored()
    model = MaskFeat(reference["config"], window=(2, 2, 2))
    report = load_pytorch_weights(model, named(reference, "weight"))
    assert {placement.action for placement in report.placements} == {"copied"}
    inputs = {name: tf.constant(reference[name]) for name in ("frames", "mask")}
    targets = hog_targets(inputs["frames"], model.predicted)
    expected = with_mask(targets, inputs["mask"], model.predicted.grid)
    with tf.GradientTape() as tape:
        predictions = model(inputs)
        loss = MaskedMeanSquaredError()(expected, predictions)
    assert relative_error(predictions, reference["predictions"]) < 1e-5
    assert float(loss) == pytest.approx(float(reference["loss"]), rel=1e-5)

    source = {
        name: as_tensor(name, values) for name, values in named(reference, "gradient").items()
    }
    layout, source, _ = find_model(source)
    theirs = {path: tensor.read() for path, tensor in layout.to_keras(source).items()}
    assert set(theirs) == {variable.path for variable in model.trainable_variables}
    largest = max(np.abs(values).max() for values in theirs.values())
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient)
        assert gradient_error(gradient, theirs[variable.path], largest) < 1e-4, variable.path


def test_the_papers_model():
    config = MVITV2_S.replace(last_query_stride=(1, 1, 1), expand_in="mlp")
    predicted = prediction_grid(config)
    assert (predicted.grid, predicted.cells, predicted.size) == ((8, 14, 14), (2, 2), 108)
    assert mask_window(config) == (8, 7, 7)
    # Keys of the last stage stay on 7 x 7, as where its queries are pooled.
    assert [spec.key_grid for spec in config.blocks()[-2:]] == [(8, 7, 7)] * 2
    assert [spec.relative_table_lengths for spec in config.blocks()[-2:]] == [(15, 27, 27)] * 2


def test_no_pretraining_starts_from_a_classifier(tmp_path):
    config = stored()["config"]
    mvit_tf.MViT(config.replace(num_classes=3)).save_weights(tmp_path / "model.weights.h5")
    model = MaskFeat(config, window=(2, 2, 2))
    with pytest.raises(UserError, match="of a classifier, and no pre-training starts from one"):
        model.load_weights(tmp_path / "model.weights.h5")


def test_weights_start_as_slowfasts_and_survive_a_file(tmp_path):
    reference = stored()
    keras.utils.set_random_seed(0)
    model = MaskFeat(reference["config"], window=(2, 2, 2))
    head, norm = model.get_layer("pred_head"), model.get_layer("pred_norm")
    assert np.std(head.kernel) == pytest.approx(0.02, rel=0.05)
    assert not np.any(head.bias) and not np.any(norm.beta)
    assert np.all(model.get_layer("block_04").norm2.beta == np.float32(0.02))
    assert 0 < np.abs(model.get_layer("mask_token").token).max() < 0.1

    inputs = {name: reference[name] for name in ("frames", "mask")}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    model.save_weights(tmp_path / "model.weights.h5")
    other = MaskFeat(reference["config"], window=(2, 4, 4), dtype="mixed_bfloat16")
    other.load_weights(tmp_path / "model.weights.h5")
    mask = reference["mask"].repeat(2, axis=2).repeat(2, axis=3)
    rounded = other({"frames": reference["frames"], "mask": mask})
    assert rounded.dtype == "float32"
    assert relative_error(rounded, np.asarray(model(inputs))) < 0.1


@pytest.mark.parametrize(
    ("fields", "window", "message"),
    [
        ({"query_stride": (2, 2, 2)}, None, "leave time unpooled"),
        ({"input_shape": (16, 200, 224, 3)}, None, "H = 200 .* no multiple of 8 x 7 tokens"),
        ({}, (8, 5, 7), r"mask_window=\(8, 5, 7\) must be .* divide the 7 x 7 tokens"),
        ({}, (4, 7, 7), "T = 8, the times of the tokens"),
        ({"input_shape": (16, 32, 32, 3)}, None, r"places of 32 pixels, \(8, 1, 1\), must be"),
    ],
)
def test_what_does_not_fit_is_named(fields, window, message):
    with pytest.raises(UserError, match=message):
        mask_window(MVITV2_S.replace(**fields), window)
    with pytest.raises(UserError, match="for video models"):
        prediction_grid(mvit_tf.get_config("mvitv2_s"))
