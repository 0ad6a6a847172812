import itertools

import numpy as np
import pytest

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.moving_shapes import (
    DIRECTIONS,
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


def direction_by_correlation(frames, shapes):
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
    return int(np.argmax(scores))


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
