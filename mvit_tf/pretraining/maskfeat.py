"""MaskFeat: an MViT that predicts the gradients of what it is not shown (arXiv 2112.09133)."""

import keras
from keras import ops

from mvit_tf.layers.dense import Dense
from mvit_tf.layers.embeddings import stretch_mask
from mvit_tf.layers.initializers import kernel_initializer
from mvit_tf.layers.normalization import LayerNormalization
from mvit_tf.layers.readout import GridTokens
from mvit_tf.models.config import MViTConfig
from mvit_tf.models.encoder import embed_frames, encode_tokens
from mvit_tf.models.whole_weights import WholeWeights
from mvit_tf.pretraining.geometry import mask_window, prediction_grid


@keras.saving.register_keras_serializable(package="mvit_tf")
class MaskFeat(WholeWeights, keras.Model):
    """The encoder of an `MViT` with a mask token before it and a linear prediction after it.

    A functional model of the layers of an `MViT`, whose names, up to the last block, are the
    same; behind them `pred_norm` and `pred_head` take the place of `norm` and `head`. Of the
    config, `num_classes`, `readout` and what concerns the head play no part. MaskFeat's own
    models keep the grid of the third stage in the last, `last_query_stride=(1, 1, 1)`.

    Args:
        config: MViTConfig of a video model, or its `to_dict()`.
        window: three ints, (T, H, W) of the masks; None for the paper's, see `mask_window`.
        remat, dtype: as of `MViT`.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Inputs: a dict of `frames`, normalised floats (B, T, H, W, 3), and `mask` (B, T', H', W') of the
    window's shape, 1 where masked. Output: (B, N, D), float32: of the N tokens of the last stage
    the histograms that `hog_targets` gives; all are predicted, the masked ones are learned from.

    Raises:
        UserError: a config whose tokens do not cover whole cells, or a window that they do not
            divide into.

    Example:

        config = mvit_tf.get_config("mvitv2_s_16x4").replace(last_query_stride=(1, 1, 1))
        model = MaskFeat(config)
        predictions = model({"frames": frames, "mask": mask})
    """

    def __init__(self, config, *, window=None, remat=False, dtype=None, **kwargs):
        config = config if isinstance(config, MViTConfig) else MViTConfig(**config)
        dtype = keras.dtype_policies.get(dtype) if dtype else keras.config.dtype_policy()
        predicted = prediction_grid(config)
        window = mask_window(config, window)

        frames = keras.Input(config.input_shape, dtype="float32", name="frames")
        mask = keras.Input(window, dtype="float32", name="mask")
        tokens = embed_frames(config, frames, mask=mask, dtype=dtype)
        tokens = encode_tokens(config, tokens, remat=remat, dtype=dtype)
        tokens = GridTokens(class_token=config.class_token, dtype=dtype, name="grid_tokens")(tokens)
        tokens = LayerNormalization(beta_initializer="zeros", dtype=dtype, name="pred_norm")(tokens)
        outputs = Dense(
            predicted.size,
            kernel_initializer=kernel_initializer(),
            bias_initializer="zeros",
            dtype="float32",
            name="pred_head",
        )(tokens)
        super().__init__({"frames": frames, "mask": mask}, outputs, **kwargs)
        self.config = config
        self.window = window
        self.predicted = predicted
        self.remat = remat
        self._dtype = dtype

    def get_config(self):
        return {
            "config": self.config.to_dict(),
            "window": list(self.window),
            "remat": self.remat,
            "dtype": keras.dtype_policies.serialize(self._dtype),
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


@keras.saving.register_keras_serializable(package="mvit_tf")
class MaskedMeanSquaredError(keras.losses.Loss):
    """The mean squared error of the numbers predicted of masked tokens (MaskFeat, section 3.2).

    The mean over all masked tokens of a batch, as SlowFast's `multi_mse`: clips of which more is
    masked count for more. Zero where nothing is masked.

    Call: targets (B, N, D + 1), the last of which says whether the token is masked (see
    `with_mask`), and predictions (B, N, D).
    """

    def __init__(self, name="masked_mean_squared_error", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        targets, masked = y_true[..., :-1], y_true[..., -1]
        errors = ops.mean(ops.square(y_pred - targets), axis=-1)
        # Of each clip, so that Keras means over them, and over replicas.
        of_clips = ops.sum(errors * masked, axis=-1)
        clips = ops.cast(ops.shape(masked)[0], masked.dtype)
        return of_clips * clips / ops.maximum(ops.sum(masked), 1.0)


def with_mask(targets, mask, grid):
    """Targets (B, N, D) with the mask as one number more of each token, (B, N, D + 1).

    Args:
        targets: tensor.
        mask: tensor (B, T, H', W'), stretched to the tokens by the nearest value.
        grid: three ints, (T, H, W) of the N tokens.
    """
    masked = stretch_mask(mask, grid)[..., None]
    return ops.concatenate([targets, ops.cast(masked, targets.dtype)], axis=-1)
