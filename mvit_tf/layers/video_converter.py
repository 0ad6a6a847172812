"""Raw frames to what a model takes, as a layer."""

import keras

from mvit_tf.data.preprocessing import Preprocessing


@keras.saving.register_keras_serializable(package="mvit_tf")
class VideoConverter(keras.layers.Layer):
    """The preprocessing of evaluation as a layer: before a model, or mapped over a `tf.data` set.

    Frames are resized, cut at the centre and normalised as `mvit evaluate` and an export do it, by
    TensorFlow: on another backend, only outside of its compiled functions. In a preset it is
    `video_converter.json`, or `image_converter.json` of an image model.

    Args:
        preprocessing: Preprocessing, or its `to_dict()`.
        num_frames: frames of a clip, taken evenly from those given; all of them when None.
        **kwargs: of `keras.layers.Layer`.

    Input shape: uint8 RGB (B, T, H, W, 3), any T, H and W; images (B, H, W, 3) without
    `num_frames`. Output shape: float32 (B, T, h, w, 3), or (B, h, w, 3).

    Example:

        convert = mvit_tf.layers.VideoConverter(model.preprocessing.to_dict(), num_frames=16)
        frames = keras.Input((None, None, None, 3), dtype="uint8")
        end_to_end = keras.Model(frames, model(convert(frames)))
    """

    def __init__(self, preprocessing, *, num_frames=None, **kwargs):
        kwargs = {"dtype": "float32", **kwargs}
        # Pixels are to come as they are.
        super().__init__(autocast=False, **kwargs)
        if isinstance(preprocessing, dict):
            preprocessing = Preprocessing.from_dict(preprocessing)
        self.preprocessing = preprocessing
        self.num_frames = num_frames
        self.built = True

    def call(self, frames):
        import tensorflow as tf

        from mvit_tf.data.transforms import evaluation_preprocess, temporal_subsample

        elsewhere = not tf.is_tensor(frames)
        frames = tf.convert_to_tensor(keras.ops.convert_to_numpy(frames) if elsewhere else frames)
        if self.num_frames is not None:
            frames = temporal_subsample(frames, self.num_frames)
        frames = evaluation_preprocess(frames, self.preprocessing)
        return keras.ops.convert_to_tensor(frames.numpy()) if elsewhere else frames

    def compute_output_spec(self, frames):
        shape = self.compute_output_shape(frames.shape)
        return keras.KerasTensor(shape, dtype="float32")

    def compute_output_shape(self, input_shape):
        *lead, _, _, channels = input_shape
        if self.num_frames is not None:
            if len(lead) < 2:
                raise ValueError(f"images, of shape {input_shape}, go without num_frames")
            lead[1] = self.num_frames
        return (*lead, *self.preprocessing.size, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "preprocessing": self.preprocessing.to_dict(),
            "num_frames": self.num_frames,
        }
