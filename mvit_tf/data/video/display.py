"""How a video's stored pictures are turned for show."""

import dataclasses

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mvit_tf.data.video.video_file import DecodeError


@dataclasses.dataclass(frozen=True)
class Display:
    """How stored pictures are turned and mirrored for show; transposed first, then flipped."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def of(cls, picture):
        """Reads FFmpeg's display matrix; turns that are no multiple of 90 degrees are rounded.

        The matrix sends stored (x, y) to shown ``(a x + c y, b x + d y)``.
        """
        for data in picture.side_data:
            if data.type.name == "DISPLAYMATRIX":
                a, b, _, c, d, *_ = np.frombuffer(bytes(data), "<i4").tolist()
                if abs(b) > abs(a):
                    return cls(transpose=True, flip_rows=b < 0, flip_columns=c < 0)
                return cls(transpose=False, flip_rows=d < 0, flip_columns=a < 0)
        return cls()

    @property
    def rotation(self):
        """Degrees counterclockwise; the turn that follows a mirroring of the columns, if any."""
        if self.transpose:
            return 90 if self.flip_rows else 270
        return 180 if self.flip_rows else 0

    def size(self, width, height):
        """(width, height) as shown."""
        return (height, width) if self.transpose else (width, height)

    def apply(self, picture):
        """The array (height, width, 3) as shown."""
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        if self.flip_rows:
            picture = picture[::-1]
        if self.flip_columns:
            picture = picture[:, ::-1]
        return picture


class RgbConverter:
    """The pictures of a video as RGB arrays, turned for show.

    Args:
        path: of the video.
        first: av.VideoFrame, its first picture. A stream may change its size midway: every picture
            takes that of the first.
    """

    def __init__(self, path, first):
        self._path = path
        self._size = first.width, first.height
        self._display = Display.of(first)
        self._reformatter = VideoReformatter()

    def __call__(self, picture):
        """uint8 (height, width, 3) of an av.VideoFrame.

        Raises:
            DecodeError: it cannot be converted.
        """
        width, height = self._size
        try:
            picture = self._reformatter.reformat(
                picture, width=width, height=height, format="rgb24", threads=1
            )
        except av.FFmpegError as error:
            detail = f"a frame cannot be converted to RGB: {error.strerror}"
            raise DecodeError(self._path, "decode_error", detail) from None
        return self._display.apply(picture.to_ndarray())
