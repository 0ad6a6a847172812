"""The tiny model that the tests export."""

import keras

from mvit_tf.data.sampling import ClipSampling
from mvit_tf.data.transforms import Preprocessing
from mvit_tf.models import build_mvit, get_config

CLASS_NAMES = ("cartwheel", "juggling", "wave")
SAMPLING = ClipSampling(num_frames=4, sampling_rate=2)
PREPROCESSING = Preprocessing(
    size=(32, 32), short_side=36, mean=(0.4, 0.45, 0.5), std=(0.2, 0.225, 0.25)
)


def tiny_model(dtype=None, seed=7):
    """Clips (4, 32, 32, 3) -> 3 logits, with logits far enough apart to tell rows apart."""
    keras.utils.set_random_seed(seed)
    config = get_config("mvit_s_16x4").replace(
        input_shape=(4, 32, 32, 3), depths=(1, 1), embed_dim=16, num_classes=len(CLASS_NAMES)
    )
    model = build_mvit(config, dtype=dtype)
    head = model.get_layer("head")
    head.kernel.assign(10 * head.kernel)
    return model
