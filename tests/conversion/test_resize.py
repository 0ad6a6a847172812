"""Weights of another input size, another frame count, or of images."""

import numpy as np
import pytest

import mvit_tf
from mvit_tf.conversion import load_pytorch_weights, resize, to_pytorch_state_dict
from mvit_tf.errors import UserError
from tests.conversion import references

V1 = references.arrays("torchvision_v1")["config"]
V2 = references.arrays("torchvision_v2")["config"]


def stored_cases(kind):
    with np.load(references.FOLDER / "interpolation.npz") as stored:
        cases = sorted({key.rsplit(":", 1)[0] for key in stored if key.startswith(kind)})
        return [(case, stored[f"{case}:table"], stored[f"{case}:resized"]) for case in cases]


@pytest.mark.parametrize(("case", "table", "expected"), stored_cases("bicubic"))
def test_bicubic_is_pytorch_s(case, table, expected):
    grid, target = (tuple(map(int, text.split(","))) for text in case.split(":")[1:])
    np.testing.assert_allclose(resize.resize_space(table, grid, target), expected, atol=5e-6)


@pytest.mark.parametrize(("case", "table", "expected"), stored_cases("linear"))
def test_linear_is_pytorch_s(case, table, expected):
    target = int(case.split(":")[2])
    np.testing.assert_allclose(resize.resize_rows(table, target), expected, atol=5e-6)


@pytest.mark.compare
def test_interpolation_of_many_sizes_is_pytorch_s():
    import torch

    interpolate = torch.nn.functional.interpolate
    rng = np.random.default_rng(0)
    for _ in range(30):
        height, width, new_height, new_width = (int(size) for size in rng.integers(1, 25, 4))
        table = rng.standard_normal((height * width, 2)).astype(np.float32)
        places = torch.from_numpy(table).reshape(1, height, width, 2).permute(0, 3, 1, 2)
        expected = interpolate(places, size=(new_height, new_width), mode="bicubic")
        np.testing.assert_allclose(
            resize.resize_space(table, (height, width), (new_height, new_width)),
            expected.permute(0, 2, 3, 1).reshape(-1, 2).numpy(),
            atol=5e-6,
        )
        rows = table[:width]
        expected = interpolate(torch.from_numpy(rows).t()[None], size=new_width, mode="linear")
        np.testing.assert_allclose(
            resize.resize_rows(rows, new_width), expected[0].t().numpy(), atol=1e-5
        )


def test_absolute_positions_of_another_size():
    source = mvit_tf.build_mvit(V1)
    model = mvit_tf.build_mvit(V1.replace(input_shape=(8, 48, 64, 3)))
    state_dict = to_pytorch_state_dict(source)
    report = load_pytorch_weights(model, state_dict)
    assert report.resized == ("positions/spatial", "positions/temporal")
    assert "resized  positions/spatial  (H, W) (8, 8) -> (12, 16)" in str(report)
    positions = model.get_layer("positions")
    spatial = resize.resize_space(state_dict["pos_embed_spatial"][0], (8, 8), (12, 16))
    np.testing.assert_array_equal(positions.spatial, spatial)
    # Two times made four: half-pixel centres, the ends repeated.
    first, last = state_dict["pos_embed_temporal"][0]
    expected = [first, 0.75 * first + 0.25 * last, 0.25 * first + 0.75 * last, last]
    np.testing.assert_allclose(positions.temporal, expected, atol=1e-7)
    np.testing.assert_array_equal(positions.class_position, state_dict["pos_embed_class"][0])


def test_relative_tables_of_another_size():
    model = mvit_tf.build_mvit(V2.replace(input_shape=(8, 64, 64, 3)))
    state_dict = to_pytorch_state_dict(mvit_tf.build_mvit(V2))
    report = load_pytorch_weights(model, state_dict)
    assert len(report.resized) == 9 and all("relative" in path for path in report.resized)
    name = "blocks.0.attn.rel_pos_h"
    table = model.get_layer("block_00").attn.relative_positions.tables[1]
    assert state_dict[name].shape == (15, 16) and table.shape == (31, 16)
    np.testing.assert_array_equal(table, resize.resize_rows(state_dict[name], 31))


def test_positions_that_are_not_square_need_their_grid():
    source = to_pytorch_state_dict(mvit_tf.build_mvit(V1.replace(input_shape=(4, 32, 48, 3))))
    model = mvit_tf.build_mvit(V1)
    with pytest.raises(UserError, match=r"96 positions, which are no square; give source_grid"):
        load_pytorch_weights(model, source)
    with pytest.raises(UserError, match=r"source_grid=\(2, 9, 12\) does not fit"):
        load_pytorch_weights(model, source, source_grid=(2, 9, 12))
    load_pytorch_weights(model, source, source_grid=(2, 8, 12))
    expected = resize.resize_space(source["pos_embed_spatial"][0], (8, 12), (8, 8))
    np.testing.assert_array_equal(model.get_layer("positions").spatial, expected)
    # 9 x 16 tokens and 12 x 12: as many rows, another grid.
    tall = to_pytorch_state_dict(mvit_tf.build_mvit(V1.replace(input_shape=(4, 36, 64, 3))))
    model = mvit_tf.build_mvit(V1.replace(input_shape=(4, 48, 48, 3)))
    report = load_pytorch_weights(model, tall, source_grid=(2, 9, 16))
    assert report.resized == ("positions/spatial",)


def test_joint_positions_keep_the_class_token_s():
    config = references.arrays("pytorchvideo_image")["config"]
    source = to_pytorch_state_dict(mvit_tf.build_mvit(config))
    model = mvit_tf.build_mvit(config.replace(input_shape=(64, 32, 3)))
    report = load_pytorch_weights(model, source)
    assert report.resized == ("positions/joint",)
    positions, table = np.asarray(model.get_layer("positions").positions), source["pos_embed"][0]
    np.testing.assert_array_equal(positions[0], table[0])
    np.testing.assert_allclose(
        positions[1:], resize.resize_space(table[1:], (8, 8), (16, 8)), atol=1e-7
    )


def still_video(config, batch=2):
    """An image of a config's size, and a video that shows it all the time."""
    height, width = config.input_size[1:]
    images = np.random.default_rng(0).standard_normal((batch, height, width, 3))
    images = images.astype(np.float32)
    return images, np.repeat(images[:, None], config.input_size[0], axis=1)


@pytest.mark.parametrize("inflation", ["center", "mean"])
def test_inflated_image_model_sees_the_image_in_a_still_video(inflation):
    """No pooling over time, patches of one frame wide in the middle: the logits are the image's.

    Positions of time are zero after inflation, so that every time step computes the image's
    tokens, and attention over copies of the same keys is attention over one.
    """
    image = references.arrays("pytorchvideo_image")["config"].replace(
        class_token=False, readout="mean", pool_mode="max"
    )
    video = V1.replace(
        class_token=False,
        readout="mean",
        pool_mode="max",
        pool_kernel=(1, 3, 3),
        patch_kernel=(3, 7, 7),
        patch_stride=(1, 4, 4),
        input_shape=(2, 32, 32, 3),
    )
    source = mvit_tf.build_mvit(image)
    model = mvit_tf.build_mvit(video)
    report = load_pytorch_weights(model, to_pytorch_state_dict(source), inflation=inflation)
    assert report.inflated == ("patch_embed/kernel",)
    kernel = np.asarray(model.get_layer("patch_embed").kernel)
    original = np.asarray(source.get_layer("patch_embed").kernel)[0]
    if inflation == "center":
        np.testing.assert_array_equal(kernel[1], original)
        assert not kernel[[0, 2]].any()
        images, frames = still_video(video)
        expected = np.asarray(source(images))
        assert references.relative_error(model(frames), expected) < 1e-5
    else:
        np.testing.assert_allclose(kernel, np.repeat(original[None] / 3, 3, axis=0), rtol=1e-6)


def test_image_v2_without_class_token_into_the_video_model():
    """MViTv2: tables of time zero, the class token fresh, all kernels inflated, all reported."""
    state_dict = to_pytorch_state_dict(references.build("timm"), "timm")
    model = mvit_tf.build_mvit(V2.replace(residual_pooling="all"))
    report = load_pytorch_weights(model, state_dict)
    assert report.fresh == ("class_token/token",)
    assert sum(entry.action == "inflated" for entry in report.placements) == 1 + 3 * 3
    zero = [entry.path for entry in report.placements if entry.action == "zero"]
    assert zero == [f"block_0{i}/attn/relative_positions/temporal" for i in range(3)]
    assert not np.any(model.get_layer("block_01").attn.relative_positions.tables[0])
    kernel = np.asarray(model.get_layer("block_00").attn.pool_k.conv.kernel)
    assert kernel.shape == (3, 3, 3, 1, 16)
    assert kernel[1].any() and not kernel[[0, 2]].any()


def test_inflated_joint_positions_are_those_of_space():
    config = references.arrays("pytorchvideo_image")["config"]
    state_dict = to_pytorch_state_dict(mvit_tf.build_mvit(config))
    model = mvit_tf.build_mvit(V1.replace(input_shape=(4, 64, 64, 3)))
    load_pytorch_weights(model, state_dict)
    positions, table = model.get_layer("positions"), state_dict["pos_embed"][0]
    np.testing.assert_allclose(
        positions.spatial, resize.resize_space(table[1:], (8, 8), (16, 16)), atol=1e-7
    )
    np.testing.assert_array_equal(positions.class_position, table[:1])
    assert not np.any(positions.temporal)


def test_video_weights_do_not_pass_for_image_weights():
    state_dict = to_pytorch_state_dict(mvit_tf.build_mvit(V1))
    model = mvit_tf.build_mvit(references.arrays("pytorchvideo_image")["config"])
    with pytest.raises(UserError, match="patch kernel 3, 7, 7 against 1, 7, 7"):
        load_pytorch_weights(model, state_dict)
