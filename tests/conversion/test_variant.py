"""Telling a model from its weights."""

import pytest

import mvit_tf
from mvit_tf.conversion.variant import (
    config_of_weights,
    nearest_model,
    variant_of_config,
    variant_of_shapes,
)
from mvit_tf.errors import UserError
from tests.conversion import references


@pytest.mark.parametrize("name", references.NAMES)
def test_shapes_and_config_give_one_variant(name):
    config = references.arrays(name)["config"]
    model = mvit_tf.build_mvit(config)
    found = variant_of_shapes({v.path: tuple(v.shape) for v in model.weights})
    expected = variant_of_config(config)
    assert found.differences(expected) == []
    assert found.structure.keys() == expected.structure.keys()
    assert found.num_classes == expected.num_classes


@pytest.mark.parametrize("name", mvit_tf.list_models())
def test_named_models_are_recognised(name):
    """Every one by its own variant; also with other classes and a 21k file's class token."""
    config = mvit_tf.get_config(name)
    found, found_config, differences = nearest_model(variant_of_config(config))
    assert (found, found_config, differences) == (name, config, [])
    if name.startswith("mvitv2") and config.image:
        other = config.replace(class_token=True, readout="class_token", num_classes=19168)
        assert nearest_model(variant_of_config(other)) == (
            name,
            config.replace(class_token=True, readout="class_token"),
            [],
        )


def test_config_takes_size_and_classes_from_the_weights():
    for name, shape in (
        ("mvitv2_s_16x4", (24, 160, 160, 3)),
        ("mvitv2_b", (384, 384, 3)),
        ("mvit_b_16x4", (16, 256, 256, 3)),
        ("mvit_b_16", (320, 320, 3)),
    ):
        config = mvit_tf.get_config(name).replace(input_shape=shape, num_classes=11)
        assert config_of_weights(None, variant_of_config(config)) == (name, config)


def test_weights_of_no_named_model_are_refused_with_the_nearest():
    config = mvit_tf.get_config("mvitv2_s_16x4").replace(depths=(1, 2, 10, 2))
    with pytest.raises(UserError, match="nearest is mvitv2_s_16x4.* depth 15 against 16"):
        config_of_weights(None, variant_of_config(config))
    config = mvit_tf.get_config("mvit_b_16x4").replace(pool_mode="max")
    with pytest.raises(UserError, match='"max" or "avg" they do not tell'):
        config_of_weights(None, variant_of_config(config))
