"""SlowFast's MaskFeat: to Keras and back, and its encoder in a classifier."""

import numpy as np
import pytest

import mvit_tf
from mvit_tf.conversion import load_pytorch_weights, to_pytorch_state_dict
from mvit_tf.errors import UserError
from mvit_tf.pretraining.maskfeat import MaskFeat
from tests.pretraining.reference import named, stored

FRESH = ("norm/gamma", "norm/beta", "head/kernel", "head/bias")
WINDOW = (2, 2, 2)


@pytest.fixture(scope="module")
def weights():
    return named(stored(), "weight")


@pytest.fixture(scope="module")
def pretrained(weights):
    model = MaskFeat(stored()["config"], window=WINDOW)
    load_pytorch_weights(model, weights)
    return model


def classifier():
    """The model that is fine-tuned: its last stage pools queries again."""
    config = stored()["config"].replace(last_query_stride=None, num_classes=5)
    return mvit_tf.build_mvit(config.replace(readout="mean_before_norm", head_init_scale=0.001))


def test_a_maskfeat_is_written_as_slowfast_names_it(weights, pretrained):
    written = to_pytorch_state_dict(pretrained)
    assert written.keys() == weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)
    with pytest.raises(UserError, match="timm has no MaskFeat; .* as slowfast"):
        to_pytorch_state_dict(pretrained, "timm")


def test_a_classifier_takes_the_encoder(tmp_path, weights, pretrained):
    model = classifier()
    assert np.std(model.get_layer("head").kernel) == pytest.approx(2e-5, rel=0.2)
    report = load_pytorch_weights(model, weights)
    assert report.fresh == FRESH
    assert set(report.unused) == {
        "mask_token",
        *(f"pred_head.transforms.0.0.{leaf}" for leaf in ("weight", "bias")),
        *(f"pred_head.projections.0.{leaf}" for leaf in ("weight", "bias")),
        "hogs.0.weight_x",
        "hogs.0.weight_y",
    }
    tables = "block_04/attn/relative_positions"
    assert report.resized == (f"{tables}/height", f"{tables}/width")
    values = {variable.path: np.asarray(variable) for variable in model.weights}
    for variable in pretrained.weights:
        if variable.path in values and variable.path not in report.resized:
            np.testing.assert_array_equal(values[variable.path], variable)
    # Seven rows as three: half-pixel centres, linear.
    rows = np.asarray(next(v for v in pretrained.weights if v.path == f"{tables}/height"))
    by_hand = np.stack([(rows[0] + 2 * rows[1]) / 3, rows[3], (2 * rows[5] + rows[6]) / 3])
    np.testing.assert_allclose(values[f"{tables}/height"], by_hand, rtol=1e-5, atol=1e-7)
    with pytest.raises(UserError, match="the file is of a pre-training.* head='fresh'"):
        load_pytorch_weights(model, weights, head="load")

    pretrained.save_weights(tmp_path / "pretrained.weights.h5")
    again = classifier()
    again.load_weights(tmp_path / "pretrained.weights.h5", head="fresh")
    assert again.conversion_report.fresh == FRESH
    assert again.conversion_report.resized == report.resized
    for variable in again.weights:
        if variable.path not in FRESH:
            np.testing.assert_array_equal(variable, values[variable.path], err_msg=variable.path)
    with pytest.raises(UserError, match='of a pre-training, which has no head: .*head="fresh"'):
        classifier().load_weights(tmp_path / "pretrained.weights.h5")


def test_an_encoder_of_another_model_is_refused(tmp_path, pretrained):
    pretrained.save_weights(tmp_path / "pretrained.weights.h5")
    config = stored()["config"].replace(last_query_stride=None, depths=(1, 1, 1, 1))
    with pytest.raises(UserError, match="Likely cause: .*depth 5 against 4"):
        mvit_tf.build_mvit(config).load_weights(tmp_path / "pretrained.weights.h5", head="fresh")
