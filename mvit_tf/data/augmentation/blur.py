"""Random Gaussian blur and grayscale of a whole clip, as self-supervised recipes use them.

The filter is tensorflow-io's, whose part in TensorFlow's own operations works on every TensorFlow.
Its `experimental.color` is not used: `frame_ops` has grey as Pillow rounds it.
"""

import warnings

import tensorflow as tf

from mvit_tf.data.augmentation import frame_ops
from mvit_tf.errors import UserError

# The kernel's radius in standard deviations, as SciPy's.
_TRUNCATE = 4.0


def random_grayscale(clip, probability, seed):
    """Takes the colour of a share of the clips away.

    Args:
        clip: uint8 tensor (T, H, W, 3), RGB.
        probability: float. Share of the clips.
        seed: int tensor (2,). The result is a pure function of clip and seed.

    Returns:
        uint8 tensor of the clip's shape.
    """
    happens = tf.random.stateless_uniform([], seed) < probability
    return tf.cond(happens, lambda: frame_ops.color(clip, 0.0), lambda: clip)


def random_blur(clip, probability, sigma, seed):
    """Blurs a share of the clips, all frames of a clip alike.

    Args:
        clip: float32 tensor (T, H, W, 3); H and W known.
        probability: float. Share of the clips.
        sigma: (least, most) standard deviation in pixels, drawn uniformly.
        seed: int tensor (2,). The result is a pure function of clip and seed.

    Returns:
        float32 tensor of the clip's shape.

    Raises:
        UserError: tensorflow-io is missing.
    """
    gaussian = import_gaussian()
    happens_seed, sigma_seed = tf.unstack(tf.random.split(seed, 2))
    least, most = sigma
    drawn = tf.random.stateless_uniform([], sigma_seed, least, most) if least < most else most
    # A mirrored border has to be smaller than the frame.
    radius = min(int(_TRUNCATE * most + 0.5), min(clip.shape[1:3]) - 1)
    size = 2 * radius + 1

    def blur():
        # Columns, then rows: two passes of a line cost far less than one of a square.
        down = gaussian(clip, [size, 1], drawn, mode="REFLECT")
        return tf.ensure_shape(gaussian(down, [1, size], drawn, mode="REFLECT"), clip.shape)

    happens = tf.random.stateless_uniform([], happens_seed) < probability
    return tf.cond(happens, blur, lambda: clip)


def import_gaussian():
    """`tensorflow_io.experimental.filter.gaussian`.

    Raises:
        UserError: tensorflow-io is missing, does not load on this TensorFlow, or crashes it.
    """
    if tf.__version__.startswith("2.16."):
        raise UserError(
            f"data.blur crashes the depthwise convolution of TensorFlow {tf.__version__}: take a "
            "later one, or leave data.blur at 0"
        )
    try:
        with warnings.catch_warnings():
            # It warns of its native libraries, which no filter needs.
            warnings.simplefilter("ignore")
            from tensorflow_io.python.api.experimental.filter import gaussian
    except ModuleNotFoundError as error:
        raise UserError(
            f"data.blur needs tensorflow-io, and {error.name} is not installed: pip install "
            "'mvit_tf[io]', or leave data.blur at 0"
        ) from error
    except (ImportError, AttributeError, NotImplementedError) as error:
        raise UserError(
            f"data.blur needs tensorflow-io, which does not load on TensorFlow {tf.__version__}: "
            f"{error}; leave data.blur at 0"
        ) from error
    return gaussian
