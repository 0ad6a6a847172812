"""Every named model: parameters and multiply-adds, exactly."""

import numpy as np
import pytest

import mvit_tf
from mvit_tf.analysis.published_costs import PUBLISHED, REMARKS, compare_with_papers

# parameters, GMACs; the papers' where they give them.
EXPECTED = {
    "vit_b_8x8": (87_159_952, 179.56),
    "mvit_b_16x4": (36_610_672, 70.60),
    "mvit_b_32x3": (36_611_440, 169.96),
    "mvit_b_64x3": (36_612_976, 455.06),
    "mvit_b24_32x3": (53_172_880, 236.24),
    "mvit_b24_32x3_slowfast": (53_115_280, 235.78),
    "mvitv2_s_16x4": (34_537_744, 64.22),
    "mvitv2_b_32x3": (51_230_128, 224.47),
    "mvitv2_l_40x3": (213_390_112, 2823.40),
    "mvit_b_16": (36_982_600, 7.81),
    "mvit_b24": (53_516_392, 10.94),
    "mvit_b24_wide": (72_961_832, 32.72),
    "mvitv2_t": (24_173_320, 4.68),
    "mvitv2_s": (34_870_216, 6.96),
    "mvitv2_b": (51_472_744, 10.10),
    "mvitv2_l": (217_992_952, 43.71),
    "mvitv2_h": (666_879_912, 120.31),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_parameters_and_macs(name):
    cost = mvit_tf.complexity(mvit_tf.get_config(name))
    params, macs = EXPECTED[name]
    assert cost.params == params
    assert round(cost.macs / 1e9, 2) == macs


@pytest.mark.parametrize("name", ["mvit_b_16x4", "mvitv2_s_16x4", "mvit_b_16"])
def test_built_model_has_them(name):
    assert mvit_tf.create_model(name).count_params() == EXPECTED[name][0]


def test_other_pooling_is_the_same_name_with_a_field():
    config = mvit_tf.get_config("mvit_b_16x4").replace(pool_mode="max")
    assert round(mvit_tf.complexity(config).params / 1e6, 1) == 36.5
    wide = mvit_tf.get_config("mvit_b24_wide").replace(pool_mode="max")
    cost = mvit_tf.complexity(wide)  # MViT, Table 17: 72.9 M, 32.7 G
    assert (round(cost.params / 1e6, 1), round(cost.macs / 1e9, 1)) == (72.9, 32.6)


def test_published_figures_are_met_within_a_hundredth_or_explained():
    table = compare_with_papers()
    for name, (params, macs, _) in PUBLISHED.items():
        cost = mvit_tf.complexity(mvit_tf.get_config(name))
        differs = max(abs(cost.params / 1e6 / params - 1), abs(cost.macs / 1e9 / macs - 1)) > 0.011
        assert differs == (name in REMARKS), name
        assert name in table
    assert len(table.splitlines()) == 2 + len(mvit_tf.list_models())


VIDEO = [name for name in mvit_tf.list_models() if not mvit_tf.get_config(name).image]


@pytest.mark.slow
@pytest.mark.parametrize("name", VIDEO)
def test_every_video_model_takes_other_sizes(name):
    size = 160, 192
    for frames in (4, 8, 64):
        model = mvit_tf.create_model(name, input_shape=(frames, *size, 3), num_classes=7)
        assert model.output_shape == (None, 7)
        if frames == 8:
            logits = model.predict(np.zeros((1, frames, *size, 3), np.float32), verbose=0)
            assert np.isfinite(logits).all()
