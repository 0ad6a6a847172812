"""Decoding of what strangers send: what the decoding processes run, without TensorFlow."""

import contextlib

import av

from mvit_tf.data.clips import clip_parts
from mvit_tf.data.image_file import open_image
from mvit_tf.data.lists.entries import is_image
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.data.video.video_file import check_file
from mvit_tf.server.limits import MOST_CLIP_BYTES, format_size

# FFmpeg's demuxers of files that hold their own frames. Playlists (HLS, DASH, concat, IMF, SDP)
# name other files and addresses, which it would open.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,gif,ogg,"
    "mxf,nut,rm,yuv4mpegpipe,ivf,h264,hevc,obu,av1,m4v,dv,wtv"
)


def untrusted_clip_parts(path, sampling, num_clips):
    """`clip_parts` of a file that may be made to do harm.

    Args:
        path, sampling, num_clips: see `clip_parts`.

    Yields:
        As `clip_parts`.

    Raises:
        DecodeError: as `clip_parts`; also a playlist, and frames too large for a clip of them.
    """
    if not (sampling.num_frames == 1 and is_image(path)):
        _refuse_playlist(path)
    with contextlib.closing(clip_parts(path, sampling, num_clips)) as parts:
        facts = next(parts)
        _refuse_large(path, sampling.num_frames, facts.height, facts.width)
        yield facts
        yield from parts


def untrusted_images(path, count):
    """Image files as the frames of one clip.

    Args:
        path: str, in which "{}" stands for the number of the frame.
        count: int.

    Yields:
        uint8 (1, H, W, 3) for each.

    Raises:
        DecodeError: one is no image, is damaged, or is of another size than the first.
    """
    size = None
    for number in range(count):
        name = f"frame {number + 1} of {count}"
        try:
            with open_image(path.format(number)) as image:
                pixels = image.frames_at_indices([0])
        except DecodeError as error:
            raise DecodeError(path, error.outcome, f"{name}: {error.detail}") from None
        size = size or pixels.shape[1:3]
        if pixels.shape[1:3] != size:
            raise DecodeError(
                path,
                "decode_error",
                f"{name} is {_size(pixels.shape[1:3])}, the first is {_size(size)}",
            )
        _refuse_large(path, count, *size)
        yield pixels


def _refuse_playlist(path):
    check_file(path)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        av.open(f"file:{path}", options=options, metadata_errors="replace").close()
    except av.FFmpegError as error:
        detail = f"cannot be opened as a video: {error.strerror}"
        raise DecodeError(path, "container_error", detail) from None


def _refuse_large(path, num_frames, height, width):
    size = 3 * num_frames * height * width
    if size > MOST_CLIP_BYTES:
        raise DecodeError(
            path,
            "too_large",
            f"a clip of {num_frames} frames of {_size((height, width))} takes {format_size(size)}, "
            f"and {format_size(MOST_CLIP_BYTES)} at most are taken",
        )


def _size(size):
    height, width = size
    return f"{width}x{height}"
