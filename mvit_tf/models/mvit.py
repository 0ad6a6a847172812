"""The model: a functional Keras model that holds its config."""

import keras

from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.layers.dense import Dense
from mvit_tf.layers.initializers import bias_initializer, kernel_initializer
from mvit_tf.layers.normalization import LayerNormalization
from mvit_tf.layers.readout import Readout
from mvit_tf.models.config import MViTConfig
from mvit_tf.models.encoder import embed_frames, encode_tokens
from mvit_tf.models.whole_weights import WholeWeights


@keras.saving.register_keras_serializable(package="mvit_tf")
class MViT(WholeWeights, keras.Model):
    """Multiscale Vision Transformer (MViT, arXiv 2104.11227; MViTv2, arXiv 2112.01526).

    A functional model: it saves to `.keras` and loads again with its config, exports and compiles
    as every Keras model does. `MViT.from_config(model.get_config())` is a copy without the
    weights; `keras.models.clone_model` copies the layers into a functional model of no config.

    The layers `patch_embed`, `class_token`, `positions`, `block_00` ..., `norm`, `readout`
    and `head`, as far as a model has them, are stable end points:
    `model.get_layer("block_03").output` is the fourth block's tokens.

    Args:
        config: MViTConfig, or its `to_dict()`.
        remat: bool. In training, keep only the input of each block and compute the rest again
            for the gradient (rematerialisation, activation checkpointing): the same numbers in
            less memory and more time.
        dtype: dtype policy of all layers but the head, which computes in float32; the global
            policy when None.
        preprocessing: Preprocessing that the weights were trained with, or its `to_dict()`.
        sampling: ClipSampling likewise.
        class_names: names of the classes in the order of the logits.
        multi_label: bool. Whether the classes do not exclude each other, so that the logits are
            for a sigmoid, not a softmax.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Input shape: normalised float frames (B, T, H, W, 3), or images (B, H, W, 3). Output shape:
    logits (B, num_classes), float32; with `num_classes=0` the features (B, C) before the head.

    Example:

        config = mvit_tf.get_config("mvit_b_16x4").replace(num_classes=12)
        model = mvit_tf.MViT(config)
        logits = model(np.zeros((1, 16, 224, 224, 3)))
        maps = model.feature_maps(np.zeros((1, 16, 224, 224, 3)))
    """

    def __init__(
        self,
        config,
        *,
        remat=False,
        dtype=None,
        preprocessing=None,
        sampling=None,
        class_names=None,
        multi_label=False,
        **kwargs,
    ):
        # === Validate ===
        config = config if isinstance(config, MViTConfig) else MViTConfig(**config)
        dtype = keras.dtype_policies.get(dtype) if dtype else keras.config.dtype_policy()

        # === Functional model ===
        # In float32 whatever Keras' own default: frames are rounded by the layers, if at all.
        inputs = keras.Input(config.input_shape, dtype="float32", name="frames")
        tokens = embed_frames(config, inputs, dtype=dtype)
        tokens = encode_tokens(config, tokens, remat=remat, dtype=dtype)
        outputs = _read_out(config, tokens, dtype)
        if config.num_classes:
            x = keras.layers.Dropout(config.head_dropout_rate, dtype=dtype, name="head_dropout")(
                outputs
            )
            outputs = _head(config)(x)
        super().__init__(inputs, outputs, **kwargs)

        # === Config ===
        self.config = config
        self.remat = remat
        self._dtype = dtype

        # === What the weights were made for; of no weight in computing ===
        self.preprocessing = preprocessing
        self.sampling = sampling
        self.class_names = class_names and tuple(class_names)
        self.multi_label = multi_label

    @property
    def preprocessing(self):
        """How frames become the model's input; may be set to its `to_dict()`, or None."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value):
        self._preprocessing = Preprocessing.from_dict(value) if isinstance(value, dict) else value

    @property
    def sampling(self):
        """Which frames of a video make a clip; may be set to its `to_dict()`, or None."""
        return self._sampling

    @sampling.setter
    def sampling(self, value):
        self._sampling = ClipSampling.from_dict(value) if isinstance(value, dict) else value

    def predict_videos(self, paths, **options):
        """The class probabilities of video files.

        Args:
            paths: of the files.
            **options: of `mvit_tf.export.predictor.ModelPredictor`.

        Returns:
            list of `mvit_tf.export.predictor.Prediction`, one a video.

        Raises:
            UserError: the model does not know its `preprocessing`, `sampling` or `class_names`.
            DecodeError: a video cannot be decoded.
        """
        from mvit_tf.export.predictor import ModelPredictor

        return ModelPredictor(self, **options).predict_videos(paths)

    def save_to_preset(self, directory):
        """Writes the model as a preset, a folder in KerasHub's layout.

        Args:
            directory: see `mvit_tf.presets.save_to_preset`.
        """
        from mvit_tf.presets import save_to_preset

        save_to_preset(self, directory)

    @classmethod
    def from_preset(cls, preset, num_classes=None, load_weights=True, dtype=None):
        """The model of a preset, with its preprocessing, sampling and class names.

        Args:
            preset, num_classes, load_weights, dtype: see `mvit_tf.presets.from_preset`.
        """
        from mvit_tf.presets import from_preset

        return from_preset(preset, num_classes=num_classes, load_weights=load_weights, dtype=dtype)

    def feature_maps(self, frames):
        """The tokens of every stage as maps, and the class token, of one call.

        Args:
            frames: as the model takes them.

        Returns:
            dict: `stage_1`, `stage_2`, ... (B, T, H, W, C), each stage's last block, not
            normed, and with `expand_in="mlp"` as wide as the next stage already; and, on models
            that have one, `class_token` (B, C) after the last norm.
        """
        return self.feature_extractor()(frames)

    def feature_extractor(self):
        """A functional model from frames to what `feature_maps` returns; shares the layers."""
        maps = {}
        first = int(self.config.class_token)
        for spec in self.config.blocks():
            tokens = self.get_layer(spec.name).output
            shape = (*spec.query_grid, spec.output_dim)
            # Each stage's last block is the one that stays.
            maps[f"stage_{spec.stage + 1}"] = keras.layers.Reshape(shape, dtype=self._dtype)(
                tokens[:, first:]
            )
        if self.config.class_token:
            maps["class_token"] = self.get_layer("norm")(tokens[:, 0])
        return keras.Model(self.input, maps, name=f"{self.name}_feature_maps")

    def get_config(self):
        # Not that of the functional model, which is its layers'.
        return {
            "config": self.config.to_dict(),
            "remat": self.remat,
            "dtype": keras.dtype_policies.serialize(self._dtype),
            "preprocessing": self.preprocessing and self.preprocessing.to_dict(),
            "sampling": self.sampling and self.sampling.to_dict(),
            "class_names": self.class_names and list(self.class_names),
            "multi_label": self.multi_label,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def build_mvit(config, *, name="mvit", dtype=None, remat=False):
    """The model of a config: `MViT(config, ...)`, see there."""
    return MViT(config, name=name, dtype=dtype, remat=remat)


def _head(config):
    scale = config.head_init_scale
    return Dense(
        config.num_classes,
        kernel_initializer=kernel_initializer(scale),
        bias_initializer=bias_initializer(scale),
        dtype="float32",
        name="head",
    )


def _read_out(config, tokens, dtype):
    """Features (B, C) of the last tokens."""
    norm = LayerNormalization(dtype=dtype, name="norm")
    readout = Readout(
        mode="class_token" if config.readout == "class_token" else "mean",
        class_token=config.class_token,
        dtype=dtype,
        name="readout",
    )
    # The norm acts on each token alone, so the class token may be taken before it.
    return readout(norm(tokens)) if config.readout == "mean" else norm(readout(tokens))
