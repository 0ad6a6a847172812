"""The fastest exact kernel for the backend at hand, chosen here and nowhere else.

Every function has one signature and one meaning on all backends: TensorFlow gets kernels
of its own (its grouped Conv3D runs on no CPU without XLA), Keras' JAX and PyTorch
backends use their native grouped convolution.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from mvit_tf.layers.kernels.tensorflow_kernels import conv3d, depthwise_conv3d
else:
    from mvit_tf.layers.kernels.generic_kernels import conv3d, depthwise_conv3d

__all__ = ["conv3d", "depthwise_conv3d"]
