import dataclasses
import itertools

import numpy as np
import pytest

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.moving_shapes import (
    DIRECTIONS,
    HARD_SHAPES,
    MovingShapes,
    render,
    render_with_masks,
    write_moving_shapes,
)
from mvit_tf.data.video.decoding import open_video
from mvit_tf.errors import UserError

SMALL = MovingShapes(height=32, width=32, num_frames=18, num_shapes=3, radius=(2.0, 3.0))


def rng(*key):
    return np.random.default_rng(np.random.SeedSequence(17, spawn_key=key))


def direction_by_correlation(frames, shapes, *, with_score=False):
    """The direction in which what moves correlates best from each frame to the next.

    It knows the range of speeds and nothing of the class: what a model has to learn.
    """
    moving = frames.astype(np.float64) - np.median(frames, axis=0)
    spectrum = np.fft.fft2(moving, axes=(1, 2))
    product = (np.conj(spectrum[:-1]) * spectrum[1:]).sum(axis=(0, 3))
    correlation = np.fft.ifft2(product).real
    scores = []
    for angle in np.arange(8) * np.pi / 4:
        moves = [(-v * np.sin(angle), v * np.cos(angle)) for v in np.linspace(*shapes.speed, 5)]
        scores.append(sum(interpolate(correlation, row, column) for row, column in moves))
    best = int(np.argmax(scores))
    return (best, scores[best]) if with_score else best


def interpolate(image, row, column):
    """Bilinear value of an image that wraps around."""
    top, left = int(np.floor(row)), int(np.floor(column))
    total = 0.0
    for down, right in itertools.product((0, 1), repeat=2):
        weight = (1 - abs(row - top - down)) * (1 - abs(column - left - right))
        total += weight * image[(top + down) % len(image), (left + right) % len(image)]
    return total


def test_order_tells_the_direction_and_shuffled_frames_not_its_sign():
    shapes = MovingShapes(num_frames=32)
    shuffle = rng(0)
    ordered, turned = 0, []
    for number in range(200):
        frames = render(number % 8, shapes, rng(1, number))[::2]
        assert len(frames) == 16
        twice = MovingShapes(speed=(2 * shapes.speed[0], 2 * shapes.speed[1]))
        ordered += direction_by_correlation(frames, twice) == number % 8
        found = direction_by_correlation(frames[shuffle.permutation(16)], twice)
        turned.append((found - number) % 8)
    forwards, backwards = turned.count(0), turned.count(4)
    assert ordered >= 196
    # An observer made for the task; a model that learnt from ordered clips does far worse.
    assert forwards <= 0.55 * 200 and abs(forwards - backwards) <= 3 * np.sqrt(200)


def test_a_frame_looks_the_same_in_every_class():
    """Where shapes are does not depend on the class, at any age, on average over videos."""
    shapes = MovingShapes(height=32, width=32, num_frames=6, num_shapes=6, texture_contrast=0.5)
    centres = []
    for direction in range(8):
        cover = np.zeros((32, 32))
        for number in range(150):
            frames = render(direction, shapes, rng(2, direction, number)).astype(float)
            background = np.median(frames, axis=(0, 1, 2))
            cover += (np.abs(frames[number % 6] - background).max(-1) > 12).astype(float)
        cover /= cover.sum()
        place = np.arange(32) - 15.5
        centres.append([(cover.sum(0) * place).sum(), (cover.sum(1) * place).sum()])
    assert np.abs(centres).max() < 1.0  # A drift without wrapping would give some pixels.


def test_the_default_videos_are_those_of_before():
    """`small_data`'s weights were made on them; these values are of the code without options."""
    frames = render(3, MovingShapes(), np.random.default_rng(5)).astype(int)
    assert frames.shape == (40, 64, 64, 3)
    np.testing.assert_allclose(
        frames.mean(axis=(0, 1, 2)), [68.51160278, 53.64490967, 45.65392456], atol=1e-4
    )
    assert frames[0, :3, :3, 0].tolist() == [[50, 50, 59], [50, 50, 59], [54, 54, 53]]
    assert frames[39, 30:33, 40:43, 1].tolist() == [[44, 44, 39], [44, 44, 39], [61, 61, 56]]


def test_speed_is_a_class_where_there_are_two():
    assert HARD_SHAPES.class_names[:2] == ("right_slow", "up_right_slow")
    assert HARD_SHAPES.class_names[8:] == tuple(f"{name}_fast" for name in DIRECTIONS)
    options = {"num_frames": 6, "num_shapes": 1, "lifetime": 64, "texture_contrast": 0.1}
    shapes = MovingShapes(**options, speed=(1.0, 1.0), fast_speed=(3.0, 3.0))
    for label, right in {0: 1, 8: 3, 4: -1, 12: -3}.items():
        frames = render(label, shapes, rng(9, label)).astype(int)
        moved = np.roll(frames[:-1], right, axis=2)
        assert np.abs(moved - frames[1:]).max() <= 3 and np.ptp(frames) > 40


def test_clutter_stands_still_or_wanders_and_is_in_no_mask():
    options = {"num_frames": 6, "num_shapes": 1, "lifetime": 64, "speed": (3.0, 3.0)}
    for clutter, moves in (("still_shapes", False), ("wandering_shapes", True)):
        shapes = MovingShapes(**options, **{clutter: 4})
        frames, masks = render_with_masks(0, shapes, rng(6))
        bright = frames.max(axis=-1).astype(int) > 160
        clutter_only = bright & ~masks
        assert clutter_only.sum() > 100 * len(frames) and 0 < masks.mean() < 0.06
        stays = clutter_only[:-1] & clutter_only[1:]
        assert (stays.sum() / clutter_only[1:].sum() > 0.9) == (not moves)


def test_a_drifting_camera_moves_background_and_shapes_alike():
    options = {"num_frames": 5, "num_shapes": 1, "lifetime": 64, "texture_contrast": 20.0}
    still = MovingShapes(**options, speed=(1e-9, 2e-9))
    for seed in range(4):
        frames = render(0, MovingShapes(**options, speed=(1e-9, 2e-9), camera_drift=4.0), rng(seed))
        frames = frames.astype(int)
        assert np.ptp(render(0, still, rng(seed)), axis=0).max() == 0
        # Each frame is the one before, moved: at one offset of whole pixels they fit best.
        found = set()
        for before, after in itertools.pairwise(frames):
            fits = {
                (y, x): np.abs(np.roll(before, (y, x), (0, 1)) - after).mean()
                for y, x in itertools.product(range(-4, 5), repeat=2)
            }
            found.add(min(fits, key=fits.get))
        ys, xs = zip(*found, strict=True)
        assert max(ys) - min(ys) <= 1 and max(xs) - min(xs) <= 1  # rounded, it is constant
    first = render(3, HARD_SHAPES, rng(1))[0].astype(int)
    steady = dataclasses.replace(HARD_SHAPES, camera_drift=0.0)
    assert np.abs(first - render(3, steady, rng(1))[0]).any()


def histograms(frames):
    """Colour histograms (N, 64) of frames (N, H, W, 3)."""
    colours = (frames // 64).astype(int) @ [16, 4, 1]
    return np.stack([np.bincount(colour.ravel(), minlength=64) for colour in colours])


def test_neither_colours_nor_single_frames_tell_the_hard_classes():
    labels = np.tile(np.arange(16), 20)
    videos = np.stack([render(label, HARD_SHAPES, rng(7, n)) for n, label in enumerate(labels)])
    train, test = slice(0, 224), slice(224, 320)
    # Nearest neighbour by the colours of whole videos, and a linear classifier of one frame.
    colours = np.stack([histograms(video).sum(axis=0) for video in videos])
    distances = np.abs(colours[test, None] - colours[None, train]).sum(axis=-1)
    by_colour = labels[train][distances.argmin(axis=1)] == labels[test]
    frames = videos[:, 10].reshape(320, 12, 4, 12, 4, 3).mean(axis=(2, 4)).reshape(320, -1)
    pixels = np.hstack([frames - frames.mean(axis=0), histograms(videos[:, 10]) / 10.0])
    gram = pixels @ pixels.T
    one_hot = np.eye(16)[labels[train]] - 1 / 16
    weights = np.linalg.solve(gram[train, train] + 1e4 * np.eye(224), one_hot)
    by_frame = (gram[test, train] @ weights).argmax(axis=1) == labels[test]
    # Of 96 videos guessing gets 6 with a standard deviation of 2.4.
    assert by_colour.sum() <= 14 and by_frame.sum() <= 14


def test_motion_tells_the_hard_classes():
    """Of both speeds, behind clutter, to an observer who knows the two ranges of speed."""
    shapes = dataclasses.replace(HARD_SHAPES, camera_drift=0.0, num_frames=32)
    right = 0
    for number in range(96):
        frames = render(number % 16, shapes, rng(8, number))
        found = {
            fast: direction_by_correlation(
                frames,
                dataclasses.replace(shapes, speed=speed, fast_speed=None),
                with_score=True,
            )
            for fast, speed in enumerate((shapes.speed, shapes.fast_speed))
        }
        fast = max(found, key=lambda key: found[key][1])
        right += 8 * fast + found[fast][0] == number % 16
    assert right >= 0.5 * 96  # guessing gets 6


def test_masks_are_where_the_shapes_are():
    shapes = MovingShapes(texture_contrast=0.5)
    frames, masks = render_with_masks(3, shapes, rng(4))
    np.testing.assert_array_equal(frames, render(3, shapes, rng(4)))
    change = np.abs(frames - np.median(frames, axis=0)).max(axis=-1)
    assert 0.03 < masks.mean() < 0.15
    assert ((change > 50) == masks).mean() > 0.97


def test_files_are_h264_in_class_folders(tmp_path):
    calls = []
    root = write_moving_shapes(
        tmp_path / "demo",
        videos_per_class=2,
        seed=3,
        shapes=SMALL,
        progress=lambda done, total: calls.append((done, total)),
    )
    videos = load_video_list(root)
    assert videos.class_names == tuple(sorted(DIRECTIONS)) and len(videos) == 16
    assert calls == [(i, 16) for i in range(1, 17)]
    assert {path.suffix for path in root.glob("*/*")} == {".mp4"}
    expected = render(DIRECTIONS.index("up_left"), SMALL, stream_of(3, "up_left", 1))
    with open_video(root / "up_left" / "up_left_0001.mp4") as video:
        assert video._stream.codec_context.name == "h264"
        assert (video.info.fps, video.info.num_frames) == (30.0, 18)
        frames = video.frames_at_indices(range(18))
    assert np.abs(frames.astype(int) - expected).mean() < 12  # 4:2:0 blurs colours.


def stream_of(seed, name, number):
    key = (DIRECTIONS.index(name), number)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def test_bytes_depend_on_the_seed_only(tmp_path):
    def digest(folder, **options):
        root = write_moving_shapes(tmp_path / folder, videos_per_class=1, shapes=SMALL, **options)
        return {path.name: path.read_bytes() for path in root.glob("*/*")}

    first = digest("a", seed=1)
    assert digest("b", seed=1, num_workers=1) == first
    other = digest("c", seed=2)
    assert other.keys() == first.keys() and all(other[name] != first[name] for name in first)


def test_a_life_moves_by_its_speed_in_the_direction():
    shapes = MovingShapes(
        num_frames=6, num_shapes=1, lifetime=64, texture_contrast=0.1, speed=(3.0, 3.0)
    )
    for direction, (right, down) in {0: (3, 0), 2: (0, -3), 4: (-3, 0), 6: (0, 3)}.items():
        frames = render(direction, shapes, rng(4, direction)).astype(int)
        moved = np.roll(frames[:-1], (down, right), axis=(1, 2))
        assert np.abs(moved - frames[1:]).max() <= 3 and np.ptp(frames) > 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 33}, "even.*33"),
        ({"num_shapes": 0}, "num_shapes.*0"),
        ({"speed": (3, 2)}, r"speed.*\(3, 2\)"),
        ({"radius": (4, 40)}, "radius 40 do not fit into 64 x 64"),
        ({"fast_speed": (4, 3)}, r"fast_speed.*\(4, 3\)"),
        ({"fast_speed": (3, 5)}, r"fast_speed=\(3, 5\) must begin above .* speed=\(2.5, 3.5\)"),
        ({"still_shapes": -1}, "still_shapes.*-1"),
        ({"wandering_shapes": -2}, "wandering_shapes.*-2"),
        ({"camera_drift": -0.5}, "camera_drift.*-0.5"),
    ],
)
def test_bad_values_are_refused_and_quoted(arguments, message):
    with pytest.raises(UserError, match=message):
        MovingShapes(**arguments)


def test_no_videos_is_refused(tmp_path):
    with pytest.raises(UserError, match="videos_per_class.*0"):
        write_moving_shapes(tmp_path / "x", videos_per_class=0, seed=0)
    with pytest.raises(UserError, match="seed.*-1"):
        write_moving_shapes(tmp_path / "x", videos_per_class=1, seed=-1)
    assert not (tmp_path / "x").exists()
