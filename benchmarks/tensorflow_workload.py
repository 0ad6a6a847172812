"""Ours in TensorFlow: a graph, one with weights as constants or with rematerialisation, XLA, a
SavedModel as served."""

import functools

import tensorflow as tf

from benchmarks import cases
from benchmarks.worker import best_rate

_GEMM_SIZE = 2048


def build(*, case, style, weights, threads):
    """The workload of a case, see `benchmarks.worker`.

    Args:
        case: Case as a dict.
        style: "graph", "frozen", "remat", "xla" or "saved_model".
        weights: the folder of a SavedModel for that style.
        threads: processors to use.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    case = cases.Case(**case)
    if style == "saved_model":
        return _Served(case, weights)
    return {"forward": _Forward, "train": _Train}[case.mode](case, style)


def training_step(model, *, jit_compile=False):
    """A function of (frames, one-hot labels) that trains a model as `train.py` does.

    Returns:
        Callable that returns the mean loss so far.
    """
    import keras

    try:
        from mvit_tf.training.optimization.optimizer import ReplicaAdamW
    except ModuleNotFoundError:  # another checkout, of before that folder
        from mvit_tf.training.optimizer import ReplicaAdamW

    optimizer = ReplicaAdamW(
        cases.LEARNING_RATE, weight_decay=cases.WEIGHT_DECAY, global_clipnorm=cases.CLIP_NORM
    )
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss=keras.losses.CategoricalCrossentropy(from_logits=True))

    @tf.function(autograph=False, jit_compile=jit_compile)
    def step(frames, targets):
        return model.train_step((frames, targets))["loss"]

    return step


def write_saved_model(*, case, path):
    """A SavedModel in a new folder; returns the folder of its version."""
    from mvit_tf.data.sampling import ClipSampling
    from mvit_tf.data.transforms import Preprocessing
    from mvit_tf.export.saved_model import export_saved_model

    case = cases.Case(**case)
    frames, *size = case.config().input_size
    version = export_saved_model(
        case.build_model(),
        path,
        class_names=[str(index) for index in range(case.config().num_classes)],
        preprocessing=Preprocessing(
            size=tuple(size), short_side=min(size), mean=(cases.MEAN,) * 3, std=(cases.STD,) * 3
        ),
        sampling=ClipSampling(frames),
        num_clips=1,
    )
    return str(version)


class _Workload:
    def __init__(self, case):
        self._dtype = case.dtype

    def gemm_rate(self):
        shape = (_GEMM_SIZE, _GEMM_SIZE)
        values = tf.cast(tf.random.stateless_uniform(shape, (0, 0)), self._dtype)
        product = tf.function(tf.matmul, autograph=False)
        return best_rate(lambda: product(values, values)[0, 0].numpy(), _GEMM_SIZE)


class _Forward(_Workload):
    def __init__(self, case, style):
        super().__init__(case)
        model = case.build_model()
        call = functools.partial(model, training=False)
        if style == "frozen":
            from mvit_tf.export.frozen import frozen_call

            call = frozen_call(model)
        self._model = tf.function(call, autograph=False, jit_compile=style == "xla")
        self._frames = tf.constant(case.normalised_frames())

    def step(self):
        return self._model(self._frames).numpy().tolist()


class _Train(_Workload):
    def __init__(self, case, style):
        super().__init__(case)
        model = case.build_model(remat=style == "remat")
        self._step = training_step(model, jit_compile=style == "xla")
        self._frames = tf.constant(case.normalised_frames())
        self._targets = tf.constant(case.targets())

    def step(self):
        return float(self._step(self._frames, self._targets))


class _Served(_Workload):
    """Takes raw frames and normalises them, as clients of the SavedModel have it."""

    def __init__(self, case, folder):
        super().__init__(case)
        self._loaded = tf.saved_model.load(folder)
        self._serve = self._loaded.signatures["serving_default"]
        self._frames = tf.constant(case.raw_frames())

    def step(self):
        return self._serve(frames=self._frames)["logits"].numpy().tolist()
