"""Video data: lists, decoding, sampling, transforms, tf.data pipelines, and the demo's videos.

Only `transforms` and `pipeline` import TensorFlow; nothing here imports a model.
"""
