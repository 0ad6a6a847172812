"""An image file read as a video of one frame, by Pillow."""

import contextlib
import io
import os
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mvit_tf.data.video.decoding import DecodeError, VideoInfo
from mvit_tf.data.video.video_file import RemoteVideo, check_file
from mvit_tf.urls import is_url

# The one frame is shown for a second.
_FPS = 1.0
# What Pillow raises of damaged files, by format, and of damaged EXIF data.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, struct.error)
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


@contextlib.contextmanager
def open_image(path):
    """Opens an image for reading.

    Args:
        path: path or URL of the file.

    Yields:
        ImageReader.

    Raises:
        DecodeError: the file is missing, empty, no image, damaged, or too large (more than twice
            `PIL.Image.MAX_IMAGE_PIXELS`, as "decompression bombs" are).
    """
    path = os.fspath(path)
    check_file(path)
    yield ImageReader(path)


class ImageReader:
    """An image as `VideoReader` gives a video of one frame.

    It is turned as its EXIF data says. What is not RGB becomes it as by Pillow: an alpha channel
    is left out, a palette looked up, CMYK and gray converted; of 16 bits the upper eight count. Of
    an animation the first frame is taken.

    Args:
        path: str.

    Attributes:
        path: str.
        info: VideoInfo.

    Raises:
        DecodeError: see `open_image`.
    """

    def __init__(self, path):
        self.path = path
        # As Pillow decodes late, reading whole files keeps the errors of reading apart.
        content = RemoteVideo(path).read() if is_url(path) else _content(path)
        try:
            with Image.open(io.BytesIO(content)) as picture:
                codec = picture.format.lower()
                picture.load()
                self._pixels = np.asarray(_rgb(_upright(picture)))
        except UnidentifiedImageError:
            detail = "cannot be opened as an image"
            raise DecodeError(path, "container_error", detail) from None
        except Image.DecompressionBombError as error:
            raise DecodeError(path, "decode_error", f"too large: {error}") from None
        except _DAMAGED as error:
            raise DecodeError(path, "decode_error", f"cannot be decoded: {error}") from None
        height, width = self._pixels.shape[:2]
        self.info = VideoInfo(
            codec=codec,
            fps=_FPS,
            num_frames=1,
            duration=1 / _FPS,
            width=width,
            height=height,
            rotation=0,
        )

    def frames_at_indices(self, indices):
        """The image, uint8 (len(indices), height, width, 3), once for each index."""
        return np.broadcast_to(self._pixels, (len(indices), *self._pixels.shape))

    def clips_at_indices(self, clips):
        """Yields the frames of several clips, as `VideoReader.clips_at_indices`."""
        for indices in clips:
            yield self.frames_at_indices(indices)

    def go_on_after_damage(self):
        """As of `VideoReader`; there is nothing to go on to."""


def _content(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        raise DecodeError(path, "missing", detail) from None


def _upright(picture):
    try:
        return ImageOps.exif_transpose(picture)
    except _DAMAGED:  # Of the EXIF data alone: the pixels are loaded.
        return picture


def _rgb(picture):
    if picture.mode == "F":
        raise ValueError("its floating-point pixels have no known range")
    if picture.mode == "I" or picture.mode in _SIXTEEN_BITS:
        upper = np.clip(np.asarray(picture, np.int64), 0, 2**16 - 1) >> 8
        picture = Image.fromarray(upper.astype(np.uint8))
    return picture.convert("RGB")
