"""What follows from the few numbers of a config."""

import subprocess
import sys

import numpy as np
import pytest

import mvit_tf
from mvit_tf.errors import UserError


def grids(name):
    return {
        spec.index: (spec.query_grid, spec.key_grid) for spec in mvit_tf.get_config(name).blocks()
    }


def test_first_blocks_of_stages_keep_a_14x14_key_grid():
    # The key stride of a stage's first block is reduced before its input has been pooled.
    for index, (_, key_grid) in grids("mvit_b_16x4").items():
        assert key_grid == ((8, 14, 14) if index in (1, 3, 14) else (8, 7, 7))


def test_sequence_shrinks_from_25089_to_393():
    config = mvit_tf.get_config("mvit_b_16x4")
    assert config.sequence_length(config.patch_grid) == 25089
    assert config.sequence_length(config.blocks()[-1].query_grid) == 393
    vit = mvit_tf.get_config("vit_b_8x8")
    assert {vit.sequence_length(spec.grid) for spec in vit.blocks()} == {1569}


def test_channels_expand_in_the_last_mlp_or_the_first_attention():
    v1 = mvit_tf.get_config("mvit_b_16x4").blocks()
    assert [(s.input_dim, s.attention_dim, s.output_dim) for s in v1[:4]] == [
        (96, 96, 192),
        (192, 192, 192),
        (192, 192, 384),
        (384, 384, 384),
    ]
    v2 = mvit_tf.get_config("mvitv2_s_16x4").blocks()
    assert [(s.input_dim, s.attention_dim, s.output_dim) for s in v2[:4]] == [
        (96, 96, 96),
        (96, 192, 192),
        (192, 192, 192),
        (192, 384, 384),
    ]


def test_kernels_of_slowfasts_depth_24_file_are_stride_plus_one():
    blocks = mvit_tf.get_config("mvit_b24_32x3_slowfast").blocks()
    assert [spec.key_kernel for spec in blocks] == (
        [(1, 9, 9)] * 2 + [(1, 5, 5)] * 3 + [(1, 3, 3)] * 16 + [(1, 1, 1)] * 3
    )
    assert not any(spec.has_key_pooling for spec in blocks[21:])


def test_tables_at_312_pixels_are_sized_by_division_not_by_the_convolutions():
    blocks = mvit_tf.get_config("mvitv2_l_40x3").blocks()
    assert blocks[44].grid == (20, 20, 20)
    assert blocks[47].query_grid == (20, 10, 10)
    lengths = {spec.index: spec.relative_table_lengths for spec in blocks}
    assert lengths[0] == (39, 155, 155)
    assert lengths[8] == lengths[44] == (39, 37, 37)
    assert lengths[47] == (39, 17, 17)


def test_the_last_stage_may_keep_its_grid():
    """SlowFast's MaskFeat of MViTv2-S: POOL_Q_STRIDE [14, 1, 1, 1]."""
    config = mvit_tf.get_config("mvitv2_s_16x4").replace(last_query_stride=(1, 1, 1))
    blocks = config.blocks()
    assert [spec.query_grid for spec in blocks[12:]] == [(8, 14, 14)] * 4
    assert blocks[14].query_stride == (1, 1, 1) and blocks[3].query_stride == (1, 2, 2)
    assert [spec.key_stride for spec in blocks[12:]] == [(1, 2, 2)] * 4
    assert {spec.relative_table_lengths for spec in blocks[12:]} == {(15, 27, 27)}
    plain = mvit_tf.get_config("mvitv2_s_16x4")
    assert plain.replace(last_query_stride=(1, 2, 2)).blocks() == plain.blocks()


def test_stochastic_depth_grows_linearly():
    rates = [spec.drop_path_rate for spec in mvit_tf.get_config("mvit_b_16x4").blocks()]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.2)
    assert rates[5] == pytest.approx(0.2 * 5 / 15)


def test_config_survives_plain_data():
    for name in mvit_tf.list_models():
        config = mvit_tf.get_config(name)
        assert mvit_tf.MViTConfig().replace(**config.to_dict()) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_shape": (16, 225, 224, 3)}, "H = 225 must be a multiple of 4 .*224 or 228"),
        ({"input_shape": (15, 224, 224, 3)}, "T = 15 must be a multiple of 2 .*14 or 16"),
        ({"input_shape": (16, 224)}, r"\(T, H, W, 3\) for video or \(H, W, 3\)"),
        ({"num_heads": 5}, "num_heads=5"),
        ({"drop_path_rate": 1.0}, r"\[0, 1\), got 1.0"),
        ({"pool_mode": "mean"}, "'mean'"),
        ({"class_token": False}, "readout='mean'"),
        ({"depth": (1, 2)}, "'depth'; did you mean 'depths'"),
        ({"input_shape": (16, 224, 224)}, r"\(T, H, W, 3\) for video or \(H, W, 3\)"),
        ({"num_classes": -1}, "num_classes must be an int >= 0, got -1"),
        ({"query_stride": (1, 3, 3), "input_shape": (16, 288, 288, 3)}, "the skip path on"),
        ({"pool_kernel": (2, 2, 2)}, "use an odd pool_kernel"),
        (
            {"relative_positions": "space_time", "input_shape": (16, 16, 16, 3)},
            "leaves no grid in block_15 for relative positions",
        ),
        ({"mlp_ratio": float("nan")}, "mlp_ratio must be finite"),
        ({"mlp_ratio": float("inf")}, "mlp_ratio must be finite"),
        ({"mlp_ratio": 0.001}, "at least one hidden unit for embed_dim=96, got 0.001"),
        ({"drop_path_rate": float("nan")}, r"\[0, 1\), got nan"),
        ({"head_dropout_rate": "0.1"}, "must be a number, got '0.1'"),
        ({"qkv_bias": "no"}, r"qkv_bias must be one of \(True, False\), got 'no'"),
        ({"class_token": 1}, "class_token must be one of"),
        ({"normalized_skip": 0}, r"normalized_skip must be one of \(True, False\), got 0"),
        ({"last_query_stride": (1, 2)}, r"last_query_stride must be three ints"),
        ({"head_init_scale": -1}, "head_init_scale must be finite and at least 0, got -1"),
    ],
)
def test_mistakes_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        mvit_tf.get_config("mvit_b_16x4").replace(**fields)


def test_unknown_model_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'mvit_b_16x4'"):
        mvit_tf.create_model("mvit_b_16x5")


@pytest.mark.parametrize("shape", [(16, 224, 224), (16, 224, 224, 1)])
def test_input_shape_must_be_frames_of_three_channels(shape):
    with pytest.raises(UserError, match=r"\(T, H, W, 3\)"):
        mvit_tf.create_model("mvit_b_16x4", input_shape=shape)


def test_integers_of_numpy_are_integers():
    config = mvit_tf.MViTConfig(num_classes=np.int64(7), depths=np.array([1, 2]).tolist())
    assert type(config.num_classes) is int and config.depths == (1, 2)
    shape = tuple(np.array([8, 64, 64, 3]))
    assert mvit_tf.MViTConfig(input_shape=shape) == mvit_tf.MViTConfig(input_shape=(8, 64, 64, 3))


@pytest.mark.parametrize("build", [mvit_tf.MViTConfig, mvit_tf.MViTConfig().replace])
def test_former_field_names_are_accepted_and_say_the_new_ones(build):
    with pytest.warns(FutureWarning, match="widen_in of MViTConfig is now expand_in"):
        assert build(widen_in="attention").expand_in == "attention"
    with pytest.warns(FutureWarning, match=r"is now input_shape=\(T, H, W, 3\)"):
        assert build(input_size=(8, 64, 64)).input_shape == (8, 64, 64, 3)
    image = {"patch_kernel": (1, 7, 7), "patch_stride": (1, 4, 4), "patch_padding": (0, 3, 3)}
    with pytest.warns(FutureWarning):
        config = build(image=True, input_size=(1, 64, 32), **image)
    assert config.input_shape == (64, 32, 3) and config.image and config.input_size == (1, 64, 32)


def test_geometry_needs_neither_keras_nor_tensorflow():
    """`get_config`, `blocks`, `complexity` and `describe` in well under half a second."""
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "import mvit_tf; from mvit_tf.analysis.describe import describe\n"
        "config = mvit_tf.get_config('mvitv2_s_16x4')\n"
        "mvit_tf.complexity(config.replace(num_classes=7)), describe('mvit_b_16x4')\n"
        "print([name for name in ('keras', 'tensorflow') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
