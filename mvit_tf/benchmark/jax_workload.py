"""Ours on Keras' JAX backend under `jax.jit`; for GPUs, and needs no TensorFlow."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from mvit_tf.benchmark import cells
from mvit_tf.benchmark.gemm import best_rate
from mvit_tf.benchmark.worker import peak_host_bytes
from mvit_tf.models import build_mvit

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def build(*, cell, style, weights, threads):
    """The workload of a cell, see `mvit_tf.benchmark.worker`.

    Args:
        cell: Cell as a dict.
        style: "jit".
        weights: a `.weights.h5` file.
        threads: set for the process already; XLA takes the processors it may run on.
    """
    cell = cells.Cell.from_dict(cell)
    if cell.device == "gpu" and jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX sees no GPU, only {jax.default_backend()}")
    if cell.dtype == "float32":
        # On GPUs the default is TensorFloat-32; PyTorch's is full precision.
        jax.config.update("jax_default_matmul_precision", "highest")
    model = build_mvit(cell.config, dtype=_POLICIES[cell.dtype])
    model.load_weights(weights)
    return {"forward": _Forward, "train": _Train}[cell.mode](cell, model)


class _Workload:
    def __init__(self, cell, model):
        self._cell = cell
        self._frames = jnp.asarray(cells.normalised_frames(cell))
        self._trainable = [variable.value for variable in model.trainable_variables]
        self._fixed = [variable.value for variable in model.non_trainable_variables]

    def gemm_rate(self):
        size = 8192 if self._cell.device == "gpu" else 2048
        values = jax.random.uniform(jax.random.key(0), (size, size)).astype(self._cell.dtype)
        product = jax.jit(jnp.matmul)
        return best_rate(lambda: product(values, values).block_until_ready(), size)

    def peak_bytes(self):
        statistics = jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use") or peak_host_bytes()

    def describe(self):
        return {"precision": _POLICIES[self._cell.dtype], "device": str(jax.devices()[0])}


class _Forward(_Workload):
    def __init__(self, cell, model):
        super().__init__(cell, model)

        @jax.jit
        def forward(trainable, fixed, frames):
            return model.stateless_call(trainable, fixed, frames, training=False)[0]

        self._forward = forward

    def step(self):
        return np.asarray(self._forward(self._trainable, self._fixed, self._frames)).tolist()


class _Train(_Workload):
    def __init__(self, cell, model):
        super().__init__(cell, model)
        self._targets = jnp.asarray(np.eye(cell.config.num_classes)[cells.labels(cell)])
        optimizer = keras.optimizers.AdamW(
            cells.LEARNING_RATE, weight_decay=cells.WEIGHT_DECAY, global_clipnorm=cells.CLIP_NORM
        )
        vectors = [values for values in model.trainable_variables if len(values.shape) <= 1]
        optimizer.exclude_from_weight_decay(var_list=vectors)
        optimizer.build(model.trainable_variables)
        self._state = [variable.value for variable in optimizer.variables]

        def loss_of(trainable, fixed, frames, targets):
            logits, fixed = model.stateless_call(trainable, fixed, frames, training=True)
            losses = -(targets * jax.nn.log_softmax(logits.astype("float32"))).sum(-1)
            return losses.mean(), fixed

        def step(trainable, fixed, state, frames, targets):
            gradient = jax.value_and_grad(loss_of, has_aux=True)
            (loss, fixed), gradients = gradient(trainable, fixed, frames, targets)
            trainable, state = optimizer.stateless_apply(state, gradients, trainable)
            return loss, trainable, fixed, state

        self._step = jax.jit(step, donate_argnums=(0, 1, 2))

    def step(self):
        loss, self._trainable, self._fixed, self._state = self._step(
            self._trainable, self._fixed, self._state, self._frames, self._targets
        )
        return float(loss)
