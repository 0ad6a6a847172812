"""Images as videos of one frame."""

import io

import numpy as np
import pytest
from PIL import Image

from mvit_tf.data.clips import clip_parts, evaluation_frames, gather_frames, training_frames
from mvit_tf.data.image_file import open_image
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.video.decoding import DecodeError

STILL = ClipSampling(num_frames=1)
# Red, green / blue, white: every turn of it is another picture.
CORNERS = np.array([[(250, 0, 0), (0, 250, 0)], [(0, 0, 250), (250, 250, 250)]], np.uint8)


def pixels_of(path):
    with open_image(path) as image:
        (pixels,) = image.frames_at_indices([0])
    return pixels


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, CORNERS),
        (2, CORNERS[:, ::-1]),
        (3, CORNERS[::-1, ::-1]),
        (4, CORNERS[::-1]),
        (5, CORNERS.swapaxes(0, 1)),
        (6, np.rot90(CORNERS, -1)),
        (7, np.rot90(CORNERS, 2).swapaxes(0, 1)),
        (8, np.rot90(CORNERS)),
    ],
)
def test_an_image_is_turned_as_its_exif_data_says(orientation, turned, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(CORNERS).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(pixels_of(tmp_path / "x.png"), turned)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_data_that_cannot_be_read_says_nothing(tmp_path):
    Image.fromarray(CORNERS).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12")
    assert np.array_equal(pixels_of(tmp_path / "x.png"), CORNERS)


def saved(picture, name, tmp_path, **options):
    picture.save(tmp_path / name, **options)
    return pixels_of(tmp_path / name)


def test_every_kind_of_pixel_becomes_rgb(tmp_path):
    gray = np.array([[0, 100, 255]], np.uint8)
    rgb = np.stack([gray] * 3, -1)
    assert np.array_equal(saved(Image.fromarray(gray), "gray.png", tmp_path), rgb)
    sixteen = Image.fromarray(gray.astype(np.uint16) * 256 + 7)
    assert np.array_equal(saved(sixteen, "deep.png", tmp_path), rgb)
    assert np.array_equal(saved(sixteen, "deep.tif", tmp_path), rgb)
    bits = Image.fromarray(gray > 99).convert("1")
    assert saved(bits, "bits.png", tmp_path)[0, :, 0].tolist() == [0, 255, 255]
    palette = Image.fromarray(CORNERS).quantize(4)
    assert np.array_equal(saved(palette, "palette.png", tmp_path), CORNERS)
    transparent = np.dstack([CORNERS, [[0, 255], [128, 255]]]).astype(np.uint8)
    assert np.array_equal(saved(Image.fromarray(transparent), "alpha.png", tmp_path), CORNERS)
    cmyk = Image.fromarray(np.full((8, 8, 3), (200, 30, 60), np.uint8)).convert("CMYK")
    colour = saved(cmyk, "cmyk.jpg", tmp_path, quality=100).mean((0, 1))
    assert abs(colour - (200, 30, 60)).max() < 3
    with pytest.raises(DecodeError, match="floating-point pixels have no known range"):
        saved(Image.fromarray(gray.astype(np.float32)), "float.tif", tmp_path)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=100)
    path = str(tmp_path / "x.gif")
    for seed in range(3):
        items = training_frames(path, STILL, np.random.SeedSequence(seed))
        found, _ = gather_frames(items, lambda part, _: part)
        assert found.shape == (1, 4, 4, 3) and found[0, 0, 0].tolist() == [255, 0, 0]
    # A video model has all of it.
    items = evaluation_frames(path, ClipSampling(num_frames=3, sampling_rate=10), 1)
    found, _ = gather_frames(items, lambda part, _: part)
    assert len(found) == 2


def test_a_clip_of_one_frame_is_the_image(tmp_path):
    Image.fromarray(CORNERS).save(tmp_path / "x.png")
    path = str(tmp_path / "x.png")
    facts, part = list(evaluation_frames(path, STILL, 1))
    assert np.array_equal(part[0], CORNERS) and not facts.padded
    assert (facts.width, facts.height, facts.picks.tolist()) == (2, 2, [[0]])
    assert np.array_equal(list(clip_parts(path, STILL, 1))[1][0], CORNERS)


def noise(size=64):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "outcome", "detail"),
    [
        (None, "missing", "no such file"),
        (b"", "empty_file", "empty"),
        (b"<html>not found</html>", "container_error", "cannot be opened as an image"),
        (noise()[:1500], "decode_error", "truncated"),
        (noise()[:30], "decode_error", "cannot be decoded: Truncated File Read"),
    ],
)
def test_what_gives_no_image_is_an_outcome(content, outcome, detail, tmp_path):
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DecodeError, match=detail) as error, open_image(tmp_path / "x.jpg"):
        pass
    assert error.value.outcome == outcome


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(DecodeError, match="too large: Image size .400 pixels. exceeds") as error:
        pixels_of(tmp_path / "x.png")
    assert error.value.outcome == "decode_error"
