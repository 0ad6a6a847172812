import math

import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.data.transforms import (
    Augmentation,
    Preprocessing,
    denormalise,
    evaluation_preprocess,
    random_box,
    temporal_subsample,
    training_preprocess,
)
from mvit_tf.errors import UserError


def bilinear(frame, height, width):
    """Plain NumPy: half-pixel centres, edges held, no antialiasing; (H, W, C) float64."""

    def weights(size, new):
        centre = np.clip((np.arange(new) + 0.5) * size / new - 0.5, 0, size - 1)
        low = np.floor(centre).astype(int)
        matrix = np.zeros((new, size))
        np.add.at(matrix, (np.arange(new), low), 1 - (centre - low))
        np.add.at(matrix, (np.arange(new), np.minimum(low + 1, size - 1)), centre - low)
        return matrix

    rows, columns = weights(frame.shape[0], height), weights(frame.shape[1], width)
    return np.einsum("ih,hwc,jw->ijc", rows, frame.astype(np.float64), columns)


def slowfast_view(frame, preprocessing, crop):
    """SlowFast's short-side resize and uniform crop, written out in Python floats."""
    height, width = frame.shape[:2]
    size, short = preprocessing.size[0], preprocessing.short_side
    if width < height:
        new_height, new_width = int(math.floor((float(height) / width) * short)), short
    else:
        new_height, new_width = short, int(math.floor((float(width) / height) * short))
    top = math.ceil((new_height - size) / 2)
    left = math.ceil((new_width - size) / 2)
    if new_height > new_width:
        top = {"left": 0, "center": top, "right": new_height - size}[crop]
    else:
        left = {"left": 0, "center": left, "right": new_width - size}[crop]
    resized = bilinear(frame, new_height, new_width)[top : top + size, left : left + size]
    return (resized / 255 - preprocessing.mean) / preprocessing.std


def frames_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


NORMALISED = {"mean": (0.45, 0.4, 0.5), "std": (0.225, 0.25, 0.2)}


@pytest.mark.parametrize("crop", ["left", "center", "right"])
@pytest.mark.parametrize(
    ("height", "width"), [(48, 64), (64, 48), (37, 61), (99, 40), (40, 40), (20, 27)]
)
def test_evaluation_is_slowfasts(height, width, crop):
    preprocessing = Preprocessing(size=(28, 28), short_side=33, **NORMALISED)
    frames = frames_of(2, height, width, 3)
    expected = np.stack([slowfast_view(frame, preprocessing, crop) for frame in frames])
    result = evaluation_preprocess(frames, preprocessing, crop)
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, expected, atol=2e-5)


def test_long_side_is_rounded_as_python_floats_round():
    height, width, short = 56, 61, 224
    assert math.floor(width / height * short) != width * short // height  # A telling size.
    preprocessing = Preprocessing(size=(4, 4), short_side=short)
    for frames in (frames_of(1, height, width, 3), frames_of(1, width, height, 3)):
        expected = slowfast_view(frames[0], preprocessing, "right")
        result = evaluation_preprocess(frames, preprocessing, "right")[0]
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_same_numbers_eagerly_in_tf_data_and_with_unknown_sizes():
    preprocessing = Preprocessing(size=(24, 24), short_side=30)
    batch = frames_of(2, 3, 40, 52, 3)
    eager = evaluation_preprocess(batch, preprocessing).numpy()

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, 3], tf.uint8)])
    def graph(frames):
        result = evaluation_preprocess(frames, preprocessing)
        assert result.shape.as_list() == [None, None, 24, 24, 3]
        return result

    dataset = tf.data.Dataset.from_tensor_slices(batch)
    mapped = dataset.map(lambda frames: evaluation_preprocess(frames, preprocessing))
    assert mapped.element_spec.shape == (3, 24, 24, 3)
    np.testing.assert_array_equal(graph(batch), eager)
    np.testing.assert_array_equal(np.stack(list(mapped.as_numpy_iterator())), eager)
    # A single clip without a batch axis, and the frames of a taller video through one graph.
    np.testing.assert_array_equal(evaluation_preprocess(batch[0], preprocessing), eager[0])
    assert graph(frames_of(1, 5, 90, 31, 3)).shape == (1, 5, 24, 24, 3)


def test_frame_of_the_right_size_is_only_normalised():
    preprocessing = Preprocessing(size=(16, 16), short_side=16, **NORMALISED)
    frames = frames_of(2, 16, 16, 3)
    expected = (frames / 255 - preprocessing.mean) / preprocessing.std
    np.testing.assert_allclose(evaluation_preprocess(frames, preprocessing), expected, atol=1e-6)


def test_bgr_reverses_channels_before_normalising():
    rgb = Preprocessing(size=(8, 8), short_side=8, **NORMALISED)
    bgr = Preprocessing(size=(8, 8), short_side=8, channel_order="bgr", **NORMALISED)
    frames = frames_of(1, 8, 8, 3)
    np.testing.assert_array_equal(
        evaluation_preprocess(frames, bgr), evaluation_preprocess(frames[..., ::-1], rgb)
    )


def test_wide_crop_of_a_narrow_frame_is_covered():
    preprocessing = Preprocessing(size=(20, 44), short_side=24)
    result = evaluation_preprocess(np.full((1, 30, 30, 3), 200, np.uint8), preprocessing)
    assert result.shape == (1, 20, 44, 3)
    np.testing.assert_allclose(result, (200 / 255 - 0.45) / 0.225, rtol=1e-5)


def test_temporal_subsample():
    frames = np.arange(2 * 9).reshape(2, 9, 1, 1, 1)
    pick = lambda count: temporal_subsample(frames, count).numpy()[1].ravel().tolist()  # noqa: E731
    assert pick(9) == list(range(9, 18))
    assert pick(3) == [9, 13, 17] and pick(4) == [9, 11, 14, 17] and pick(1) == [13]
    assert pick(18)[::17] == [9, 17] and len(pick(18)) == 18
    for count in range(2, 70):  # Floating-point steps would miss an index here and there.
        long = np.arange(count).reshape(1, count, 1, 1, 1)
        assert temporal_subsample(long, count).numpy().ravel().tolist() == list(range(count))
    graph = tf.function(
        lambda x: temporal_subsample(x, 4),
        input_signature=[tf.TensorSpec([None, None, None, None, 1], tf.int64)],
    )
    assert graph(frames).shape == (2, 4, 1, 1, 1)


def ramp(num_frames, height, width):
    """Frames whose red is the row, green the column, and blue the frame number."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = np.arange(height)[:, None]
    frames[..., 1] = np.arange(width)
    frames[..., 2] = np.arange(num_frames)[:, None, None]
    return frames


RAW = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}  # Leaves pixel values as they are.


def test_training_crops_one_box_for_the_clip_and_flips_half():
    preprocessing = Preprocessing(size=(16, 16), short_side=16, **RAW)
    frames = ramp(4, 80, 120)
    flips, areas, ratios = 0, [], []
    clip_of = tf.function(
        lambda seed: training_preprocess(frames, preprocessing, Augmentation(), seed)
    )
    for number in range(300):
        clip = clip_of(tf.constant([7, number])).numpy()
        assert clip.shape == (4, 16, 16, 3)
        np.testing.assert_allclose(clip[..., 2], np.arange(4)[:, None, None] + 0 * clip[..., 2])
        assert (clip[..., :2] == clip[:1, ..., :2]).all()
        rows, columns = clip[0, :, 0, 0], clip[0, 0, :, 1]
        flips += columns[0] > columns[-1]
        height, width = (rows[-1] - rows[0]) / 15 * 16, abs(columns[-1] - columns[0]) / 15 * 16
        areas.append(height * width / (80 * 120))
        ratios.append(width / height)
    assert 110 < flips < 190
    assert 0.07 < min(areas) < 0.15 and 0.8 < max(areas) < 1.01
    assert 0.7 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.4
    assert abs(np.log(ratios).mean()) < 0.05


def test_training_is_a_pure_function_of_the_seed():
    preprocessing = Preprocessing(size=(12, 12), short_side=12)
    frames = frames_of(3, 50, 70, 3)
    clip = lambda *seed: training_preprocess(  # noqa: E731
        frames, preprocessing, Augmentation(), tf.constant(seed)
    ).numpy()
    np.testing.assert_array_equal(clip(1, 2), clip(1, 2))
    assert np.abs(clip(1, 2) - clip(1, 3)).max() > 0.1

    @tf.function(input_signature=[tf.TensorSpec([3, None, None, 3], tf.uint8)])
    def graph(frames):
        result = training_preprocess(frames, preprocessing, Augmentation(), [1, 2])
        assert result.shape == (3, 12, 12, 3)
        return result

    np.testing.assert_array_equal(graph(frames), clip(1, 2))


EVERYTHING = Augmentation(
    rand_augment="rand-m7-n4-mstd0.5-inc1", color_jitter=0.4, random_erasing=0.5
)


def test_everything_together_is_a_pure_function_of_the_seed():
    preprocessing = Preprocessing(size=(24, 32), short_side=24, **NORMALISED)
    frames = frames_of(3, 50, 70, 3)
    seeds = [[9, number] for number in range(12)]
    eager = np.stack(
        [training_preprocess(frames, preprocessing, EVERYTHING, tf.constant(s)) for s in seeds]
    )
    dataset = tf.data.Dataset.from_tensor_slices(seeds)
    dataset = dataset.map(lambda seed: training_preprocess(frames, preprocessing, EVERYTHING, seed))
    assert dataset.element_spec == tf.TensorSpec((3, 24, 32, 3), tf.float32)
    np.testing.assert_array_equal(np.stack(list(dataset.as_numpy_iterator())), eager)
    assert len({clip.tobytes() for clip in eager}) == 12


def test_crop_and_flip_are_the_same_whatever_follows_them():
    """So that a model trained before there was anything else saw the same clips."""
    preprocessing = Preprocessing(size=(24, 32), short_side=24, **RAW)
    frames = frames_of(2, 50, 70, 3)
    erased = Augmentation(random_erasing=1.0)
    for number in range(6):
        seed = tf.constant([1, number])
        plain = training_preprocess(frames, preprocessing, Augmentation(), seed).numpy()
        clip = training_preprocess(frames, preprocessing, erased, seed).numpy()
        kept = (clip == plain).all((0, 3))
        assert 0.6 < kept.mean() < 0.99
        box_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
        top, left, height, width = random_box(50, 70, erased, box_seed)
        crop = frames[0, top : top + height, left : left + width]
        if tf.random.stateless_uniform([], flip_seed) < 0.5:
            crop = crop[:, ::-1]
        np.testing.assert_allclose(plain[0], bilinear(crop, 24, 32), atol=1e-2)


def test_what_is_random_in_a_clip_is_the_same_in_every_frame():
    """Frames that are alike stay alike, but for the noise of erasing."""
    preprocessing = Preprocessing(size=(32, 32), short_side=32, **RAW)
    frames = np.repeat(frames_of(1, 40, 40, 3), 5, axis=0)
    augmentation = Augmentation(rand_augment="rand-m7-n4-mstd0.5-inc1", color_jitter=0.4)
    for number in range(20):
        clip = training_preprocess(frames, preprocessing, augmentation, tf.constant([6, number]))
        np.testing.assert_array_equal(clip, np.repeat(clip[:1], 5, axis=0))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pixels_come_back_from_normalised_frames(order):
    preprocessing = Preprocessing(size=(8, 8), short_side=8, channel_order=order, **NORMALISED)
    frames = frames_of(2, 8, 8, 3)
    clips = evaluation_preprocess(frames, preprocessing)
    np.testing.assert_array_equal(denormalise(clips, preprocessing), frames)
    noise = denormalise(np.full((1, 1, 1, 3), 9.0), preprocessing)
    assert noise.dtype == np.uint8 and noise.ravel().tolist() == [255, 255, 255]


def test_no_augmentation_is_a_plain_resize():
    preprocessing = Preprocessing(size=(12, 12), short_side=12, **RAW)
    frames = frames_of(2, 30, 30, 3)
    still = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=False)
    for number in range(5):
        clip = training_preprocess(frames, preprocessing, still, tf.constant([0, number]))
        np.testing.assert_allclose(clip[1], bilinear(frames[1], 12, 12), atol=1e-2)


def test_box_lies_inside_and_reaches_every_edge():
    box_of = tf.function(
        lambda seed: tf.stack(random_box(13, 17, Augmentation(scale=(0.3, 0.9)), seed))
    )
    boxes = np.stack([box_of(tf.constant([3, number])) for number in range(800)])
    top, left, height, width = boxes.T
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (top + height).max() == 13 and (left + width).max() == 17
    assert top.min() == 0 and left.min() == 0
    # Every place is equally likely: the room above and below is the same on average.
    assert abs((top - (13 - top - height)).mean()) < 0.4


def test_box_falls_back_to_the_largest_centred_one():
    # A strip in which no box of this area and ratio fits.
    box = random_box(10, 200, Augmentation(scale=(0.9, 1.0)), tf.constant([0, 0]))
    top, left, height, width = (int(value) for value in box)
    assert (top, height, width) == (0, 10, 13) and abs(left - (200 - 13) // 2) <= 1


def test_plain_data_round_trip():
    preprocessing = Preprocessing(size=(224, 192), short_side=256, channel_order="bgr")
    fields = preprocessing.to_dict()
    assert fields["size"] == [224, 192] and fields["mean"] == [0.45] * 3
    assert Preprocessing.from_dict(fields) == preprocessing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Preprocessing(size=(224, 0)), "size"),
        (lambda: Preprocessing(size=(224, 224), short_side=200), "short_side 200"),
        (lambda: Preprocessing(size=(8, 8), std=(1, 0, 1)), "std"),
        (lambda: Preprocessing(size=(8, 8), channel_order="gbr"), "'gbr'"),
        (lambda: Augmentation(scale=(0.5, 1.5)), "scale.*1.5"),
        (lambda: Augmentation(ratio=(2, 1)), r"ratio.*\(2, 1\)"),
        (lambda: Augmentation(rand_augment="rand-m7"), "rand_augment='rand-m7'.*inc1"),
        (lambda: Augmentation(color_jitter=-0.1), "color_jitter=-0.1 must be at least 0"),
        (lambda: Augmentation(random_erasing=1.5), "random_erasing=1.5 must be at most 1"),
        (lambda: Augmentation(mixup_alpha=-1.0), "mixup_alpha=-1.0 must be at least 0"),
        (lambda: Augmentation(mixup_switch_prob=2.0), "mixup_switch_prob=2.0 must be at most 1"),
        (
            lambda: evaluation_preprocess(
                np.zeros((1, 9, 9, 3), np.uint8), Preprocessing(size=(8, 8)), "middle"
            ),
            "'middle'.*left, center, right",
        ),
    ],
)
def test_bad_values_are_refused_and_quoted(make, message):
    with pytest.raises(UserError, match=message):
        make()
