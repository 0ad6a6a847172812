"""Tiny models of every kind that the explanations tell apart."""

import keras

from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.models import build_mvit, get_config

CLASS_NAMES = ("cartwheel", "juggling", "wave")
V1 = {"depths": (1, 2), "embed_dim": 16, "num_heads": 2}
# Two heads, so that their mean is one; three blocks, of which one pools its queries.
CONFIGS = {
    "v1": ("mvit_b_16x4", V1),
    "v1_mean": ("mvit_b_16x4", {**V1, "readout": "mean"}),
    "v1_max": ("mvit_b_16x4", {**V1, "pool_mode": "max"}),
    "v2": ("mvitv2_s_16x4", V1),
    "v2_all": ("mvitv2_s_16x4", {**V1, "residual_pooling": "all"}),
    "v2_mean": ("mvitv2_s_16x4", {**V1, "class_token": False, "readout": "mean"}),
    "vit": ("vit_b_8x8", {"depths": (3,), "embed_dim": 16, "num_heads": 2}),
    "image": ("mvitv2_t", V1),
}


def tiny_model(kind, seed=0):
    """A model on clips (4, 32, 32, 3), or images, whose weights are large enough to matter."""
    name, fields = CONFIGS[kind]
    keras.utils.set_random_seed(seed)
    config = get_config(name)
    shape = (32, 32, 3) if config.image else (4, 32, 32, 3)
    config = config.replace(input_shape=shape, num_classes=len(CLASS_NAMES), **fields)
    model = build_mvit(config)
    for weight in model.trainable_variables:
        if weight.name in ("kernel", "temporal", "height", "width", "spatial", "token"):
            weight.assign(5 * weight)
    model.preprocessing = Preprocessing(size=(32, 32), short_side=32)
    model.sampling = ClipSampling(num_frames=4, sampling_rate=2)
    model.class_names = CLASS_NAMES
    return model
