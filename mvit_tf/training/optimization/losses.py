"""Cross-entropy in which the clips of rare classes count for more."""

from collections.abc import Sequence

import keras
import numpy as np

from mvit_tf.data.lists.video_list import VideoList


def balanced_class_weights(videos: VideoList) -> list[float]:
    """The weight n / (K * n_c) of each class, of n videos of which n_c are of class c.

    All classes then count alike in an epoch, and the mean weight of its clips is 1. K is the
    number of classes that have videos; a class without any has the weight 0, which no clip gets.

    Args:
        videos: to train on, with one label each.
    """
    counts = np.bincount(videos.labels, minlength=len(videos.class_names))
    weights = len(videos) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).tolist()


class WeightedCategoricalCrossentropy(keras.losses.CategoricalCrossentropy):
    """Cross-entropy of logits, of each clip times the weight of its label.

    Of a label that is shared out (MixUp, CutMix) it is the mean of the classes' weights by their
    shares; label smoothing spreads the target, not the weight. The loss of a batch is the sum over
    its clips divided by their number. PyTorch's `CrossEntropyLoss(weight=...)` divides by the sum
    of the weights instead, so that there a batch of frequent classes alone weighs as much as any.

    Args:
        class_weights: of each class.
        **kwargs: of `keras.losses.CategoricalCrossentropy`.
    """

    def __init__(self, class_weights: Sequence[float], **kwargs):
        super().__init__(**kwargs)
        self.class_weights = [float(weight) for weight in class_weights]

    def call(self, y_true, y_pred):
        weights = keras.ops.convert_to_tensor(self.class_weights, dtype=y_pred.dtype)
        shares = keras.ops.cast(y_true, y_pred.dtype)
        return super().call(y_true, y_pred) * keras.ops.sum(shares * weights, axis=-1)

    def get_config(self):
        return {**super().get_config(), "class_weights": self.class_weights}
