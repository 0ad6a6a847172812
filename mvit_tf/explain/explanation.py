"""Which pixels of a clip a model's answer comes from."""

import dataclasses

import keras
import numpy as np

from mvit_tf.data.transforms import denormalise, evaluation_preprocess, temporal_subsample
from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.explain.methods import METHODS, pixel_heat
from mvit_tf.explain.passes import forward_pass
from mvit_tf.export.metadata import model_metadata
from mvit_tf.models.mvit import MViT


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """What a model saw of a clip, and how much each pixel counted.

    Attributes:
        frames: uint8 (T, h, w, 3), RGB, as the model saw them: resized and cropped.
        heat: float32 (T, h, w) in [0, 1], the most relevant pixel of the clip at 1.
        class_name: the class that is explained.
        probability: the model's, of that class.
        method: of `METHODS`.
    """

    frames: np.ndarray
    heat: np.ndarray
    class_name: str
    probability: float
    method: str


def explain_clip(
    model: keras.Model,
    frames: np.ndarray,
    *,
    method: str = "relevance",
    class_index: int | None = None,
) -> Explanation:
    """Says where in a clip a model found the evidence for a class.

    Args:
        model: an `MViT` with `preprocessing` and `class_names`. A SavedModel cannot be explained:
            it no longer has the layers.
        frames: uint8 (T, H, W, 3), RGB, of any size. Of more or fewer frames than the model
            takes, as many are taken evenly.
        method: "rollout" (attention alone, whatever the class), "relevance" or "grad_cam".
        class_index: of the class to explain; the most probable by default.

    Raises:
        UserError: an unknown method, frames that are no clip, a class that does not exist, or a
            model that is no `MViT` or does not know its frames and classes.
    """
    metadata = _checked_metadata(model)
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise UserError(
            "a clip to explain must be uint8 frames (T, H, W, 3), each axis at least 1, got "
            f"{frames.dtype} {frames.shape}"
        )
    frames = temporal_subsample(frames[np.newaxis], metadata.sampling.num_frames)[0]
    clip = evaluation_preprocess(frames, metadata.preprocessing).numpy()
    return explain_preprocessed(model, clip, method=method, class_index=class_index)


def explain_preprocessed(
    model: keras.Model,
    clip: np.ndarray,
    *,
    method: str = "relevance",
    class_index: int | None = None,
) -> Explanation:
    """`explain_clip` of frames that are what the model takes already.

    Args:
        model, method, class_index: see there.
        clip: float32 (T, h, w, 3), as `evaluation_preprocess` gives it.

    Raises:
        UserError: likewise.
    """
    metadata = _checked_metadata(model)
    if method not in METHODS:
        raise UserError(f"unknown method {method!r}; {did_you_mean(method, METHODS)}")
    count = len(metadata.class_names)
    if class_index is not None and class_index not in range(count):
        raise UserError(f"class_index={class_index!r}: must lie between 0 and {count - 1}")

    clips = keras.ops.convert_to_tensor(clip[np.newaxis])
    forward = forward_pass(model, clips[:, 0] if metadata.image else clips)
    probabilities = _probabilities(forward.logits, metadata.multi_label)
    if class_index is None:
        class_index = int(np.argmax(probabilities))
    heat = pixel_heat(METHODS[method](forward, class_index), forward)
    return Explanation(
        frames=denormalise(clip, metadata.preprocessing),
        heat=(heat / (heat.max() or 1)).astype(np.float32),
        class_name=metadata.class_names[class_index],
        probability=float(probabilities[class_index]),
        method=method,
    )


def _checked_metadata(model):
    if not isinstance(model, MViT):
        raise UserError(
            f"only a Keras MViT can be explained, not {type(model).__name__}: a SavedModel, or a "
            "model of other layers, does not show its attention"
        )
    return model_metadata(model)


def _probabilities(logits, multi_label):
    if multi_label:
        return 1 / (1 + np.exp(-logits))
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()
