"""Ours in TensorFlow: a graph, one with weights as constants or with rematerialisation, XLA, a
SavedModel as served."""

import functools

import numpy as np
import tensorflow as tf

from mvit_tf.benchmark import cells
from mvit_tf.benchmark.gemm import best_rate
from mvit_tf.export.frozen import frozen_call

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def build(*, cell, style, weights, threads):
    """The workload of a cell, see `mvit_tf.benchmark.worker`.

    Args:
        cell: Cell as a dict.
        style: "graph", "frozen", "remat", "xla" or "saved_model".
        weights: a `.weights.h5` file, or the folder of a SavedModel.
        threads: processors to use.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    cell = cells.Cell.from_dict(cell)
    if style == "saved_model":
        return _Served(cell, weights)
    kind = {"forward": _Forward, "train": _Train}[cell.mode]
    return kind(cell, weights, style)


def build_model(config, dtype, weights=None, *, remat=False):
    """Our model of a config under the policy of a dtype."""
    from mvit_tf.models import build_mvit

    model = build_mvit(config, dtype=_POLICIES[dtype], remat=remat)
    if weights is not None:
        model.load_weights(weights)
    return model


def training_step(model, *, jit_compile=False):
    """A function of (frames, one-hot labels) that trains a model as `train.py` does.

    Returns:
        Callable that returns the mean loss so far.
    """
    import keras

    from mvit_tf.training.optimizer import ReplicaAdamW

    optimizer = ReplicaAdamW(
        cells.LEARNING_RATE, weight_decay=cells.WEIGHT_DECAY, global_clipnorm=cells.CLIP_NORM
    )
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss=keras.losses.CategoricalCrossentropy(from_logits=True))

    @tf.function(autograph=False, jit_compile=jit_compile)
    def step(frames, targets):
        return model.train_step((frames, targets))["loss"]

    return step


class _Workload:
    def __init__(self, cell):
        self._dtype = cell.dtype

    def gemm_rate(self):
        size = 2048
        values = tf.cast(tf.random.stateless_uniform((size, size), (0, 0)), self._dtype)
        product = tf.function(tf.matmul, autograph=False)
        return best_rate(lambda: product(values, values)[0, 0].numpy(), size)

    def describe(self):
        return {"precision": _POLICIES[self._dtype]}


class _Forward(_Workload):
    def __init__(self, cell, weights, style):
        super().__init__(cell)
        model = build_model(cell.config, cell.dtype, weights)
        call = frozen_call(model) if style == "frozen" else functools.partial(model, training=False)
        self._model = tf.function(call, autograph=False, jit_compile=style == "xla")
        self._frames = tf.constant(cells.normalised_frames(cell))

    def step(self):
        return self._model(self._frames).numpy().tolist()


class _Train(_Workload):
    def __init__(self, cell, weights, style):
        super().__init__(cell)
        model = build_model(cell.config, cell.dtype, weights, remat=style == "remat")
        self._step = training_step(model, jit_compile=style == "xla")
        self._frames = tf.constant(cells.normalised_frames(cell))
        self._targets = tf.constant(
            np.eye(cell.config.num_classes, dtype=np.float32)[cells.labels(cell)]
        )

    def step(self):
        return float(self._step(self._frames, self._targets))


class _Served(_Workload):
    """Takes raw frames and normalises them, as clients of the SavedModel have it."""

    def __init__(self, cell, folder):
        super().__init__(cell)
        self._loaded = tf.saved_model.load(folder)
        self._serve = self._loaded.signatures["serving_default"]
        self._frames = tf.constant(cells.raw_frames(cell))

    def step(self):
        return self._serve(frames=self._frames)["logits"].numpy().tolist()
