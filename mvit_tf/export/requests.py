"""What a request must be, checked in the graph: a bad one is an InvalidArgument that says why.

The shapes that a signature declares are not checked by a server, so they are checked here, before
anything is computed or allocated from them.
"""

import tensorflow as tf

from mvit_tf.data.records.examples import FRAME_RATE, FRAMES
from mvit_tf.data.transforms import resized_size

MIN_SIDE, MAX_SIDE = 8, 2**16  # pixels
MAX_REQUEST_BYTES = 2**31
# Frames after the resize, float32, before the crop: a frame of 8 x 9000 becomes 75 million pixels.
MAX_RESIZED_BYTES = 2**32
MAX_JPEG_PIXELS = 2**25  # 7680 x 4320
_MAX_FPS = 100_000
_RATE = f"frames a second, above 0 and at most {_MAX_FPS}"
_PIXEL_BYTES = 12.0  # Three channels, float32.
_JPEG_START = b"\xff\xd8\xff"


def require(conditions, *tensors):
    """`tensors` as they are, once every condition holds.

    Args:
        conditions: (bool scalar, words and values to say otherwise) each; looked at in order.
        *tensors: what is computed from what the conditions speak of.

    Returns:
        The tensors, one alone without a tuple.
    """
    passed = []
    for holds, *said in conditions:
        with tf.control_dependencies(passed):
            passed = [tf.debugging.Assert(holds, said, summarize=8)]
    with tf.control_dependencies(passed):
        tensors = [tf.identity(tensor) for tensor in tensors]
    return tensors[0] if len(tensors) == 1 else tensors


def require_frames(frames, spec, preprocessing, num_used):
    """Raw frames of a request, of the rank of `spec` and of sizes that can be worked on.

    Args:
        frames: uint8 tensor (..., H, W, 3), of any rank in truth.
        spec: tf.TensorSpec of them, in which the unknown sizes are at least 1.
        preprocessing: Preprocessing.
        num_used: int. Frames of each clip that are resized, 1 of an image.

    Returns:
        The same, of the shape of `spec`.
    """
    axes = "B, H, W, 3" if spec.shape.rank == 4 else "B, T, H, W, 3"
    wanted = f"{spec.name} must be uint8 [{axes}], RGB"
    # Hidden, as what is declared would be taken for true.
    frames = tf.raw_ops.PlaceholderWithDefault(input=frames, shape=None)
    shape = tf.shape(frames, out_type=tf.int64)
    holds = tf.reduce_all(tf.equal(tf.size(shape), spec.shape.rank))
    frames = require([(holds, f"{wanted}; the request has the shape", shape)], frames)
    frames = tf.ensure_shape(frames, spec.shape)
    shape = tf.shape(frames, out_type=tf.int64)
    height, width = shape[-3], shape[-2]
    got = "the request has the shape"
    return require(
        [
            (
                tf.reduce_all(shape > 0),
                f"{wanted}, with at least one of each; {got}",
                shape,
            ),
            (
                (tf.minimum(height, width) >= MIN_SIDE) & (tf.maximum(height, width) <= MAX_SIDE),
                f"{spec.name} must be {MIN_SIDE} to {MAX_SIDE} pixels high and wide; {got}",
                shape,
            ),
            (
                # In floating point, which does not overflow.
                tf.reduce_prod(tf.cast(shape, tf.float64)) <= MAX_REQUEST_BYTES,
                f"{spec.name} may hold {MAX_REQUEST_BYTES} bytes in a request; send fewer or "
                f"smaller ones; {got}",
                shape,
            ),
            (
                _fits_after_resize(height, width, shape[0] * num_used, preprocessing),
                f"{spec.name} would hold more than {MAX_RESIZED_BYTES} bytes when resized to a "
                f"short side of {preprocessing.short_side}; send fewer, or of another shape; {got}",
                shape,
            ),
        ],
        frames,
    )


def require_strings(strings, name, what):
    """Strings [B] of a request, at least one.

    Args:
        strings: string tensor, of any rank in truth.
        name: str, of the input.
        what: str, of what they are.
    """
    strings = tf.raw_ops.PlaceholderWithDefault(input=strings, shape=None)
    shape = tf.shape(strings)
    holds = tf.equal(tf.size(shape), 1) & tf.reduce_all(shape > 0)
    said = f"{name} must be [B] strings, at least one, each a serialized {what}; got the shape"
    strings = require([(holds, said, shape)], strings)
    return tf.ensure_shape(strings, [None])


def require_some_frames(pictures, example):
    """The encoded frames [T] of an example, at least one.

    Args:
        pictures: string tensor (T,).
        example: int scalar, its place in the request.
    """
    said = f"no frames in the feature list {FRAMES} (a JPEG picture each) of example"
    return require([(tf.size(pictures) > 0, said, example)], pictures)


def require_jpegs(pictures, example, preprocessing):
    """Encoded frames [T], all JPEG pictures of one size that can be worked on.

    Only their headers are read.

    Args:
        pictures: string tensor (T,).
        example: int scalar, their place in the request.
        preprocessing: Preprocessing.
    """
    starts = tf.strings.substr(pictures, 0, len(_JPEG_START))
    holds = tf.reduce_all(tf.equal(starts, _JPEG_START))
    said = f"{FRAMES} must hold JPEG pictures; there is another thing in example"
    pictures = require([(holds, said, example)], pictures)
    sizes = tf.map_fn(
        tf.image.extract_jpeg_shape, pictures, fn_output_signature=tf.TensorSpec([3], tf.int32)
    )[:, :2]
    height, width = tf.cast(sizes[0, 0], tf.int64), tf.cast(sizes[0, 1], tf.int64)
    return require(
        [
            (
                tf.reduce_all(tf.equal(sizes, sizes[0])),
                "the frames must be of one size (height, width); example",
                example,
                "has",
                sizes,
            ),
            (
                tf.minimum(height, width) >= MIN_SIDE,
                f"frames must be at least {MIN_SIDE} pixels high and wide; example",
                example,
                "has",
                sizes[0],
            ),
            (
                height * width <= MAX_JPEG_PIXELS,
                f"frames may have {MAX_JPEG_PIXELS} pixels; example",
                example,
                "has",
                sizes[0],
            ),
            (
                _fits_after_resize(height, width, 1, preprocessing),
                "frames must not be that long and narrow; example",
                example,
                "has",
                sizes[0],
            ),
        ],
        pictures,
    )


def require_frame_rates(fps, frames):
    """Frame rates [B], one for each video of `frames` [B, ...]."""
    fps = tf.raw_ops.PlaceholderWithDefault(input=fps, shape=None)
    shape = tf.shape(fps)
    videos = tf.shape(frames)[:1]
    # Of another rank, `tf.equal` itself would fail.
    one_each = tf.equal(tf.size(shape), 1) & tf.equal(tf.size(fps), videos[0])
    fps = require(
        [
            (one_each, "fps must be one number for each video; got the shape", shape),
            (
                tf.reduce_all((fps > 0) & (fps <= _MAX_FPS)),
                f"fps must be {_RATE}; got",
                fps,
            ),
        ],
        fps,
    )
    return tf.ensure_shape(fps, [None])


def require_example_rate(rates, example, default):
    """The frame rate of an example, a float64 scalar.

    Args:
        rates: float32 tensor (n,), those that the example has.
        example: int scalar, its place in the request.
        default: float, that of an example without one.
    """
    holds = (tf.size(rates) <= 1) & tf.reduce_all((rates > 0) & (rates <= _MAX_FPS))
    said = f"{FRAME_RATE} must be one number of {_RATE}; example"
    rates = require([(holds, said, example, "has", rates)], rates)
    return tf.concat([tf.cast(rates, tf.float64), [default]], axis=0)[0]


def _fits_after_resize(height, width, count, preprocessing):
    resized = resized_size(height, width, preprocessing)
    pixels = tf.cast(resized[0], tf.float64) * tf.cast(resized[1], tf.float64)
    return pixels * _PIXEL_BYTES * tf.cast(count, tf.float64) <= MAX_RESIZED_BYTES
