"""Video data: lists, decoding, sampling, transforms, tf.data pipelines, and the demo's videos.

What reads lists and files imports no TensorFlow, as it also runs in the worker processes that
decode; nothing here imports a model.
"""
