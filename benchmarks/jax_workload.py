"""Ours on Keras' JAX backend under `jax.jit`; for GPUs, and needs no TensorFlow."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks import cases
from benchmarks.worker import best_rate, peak_host_bytes


def build(*, case, style, weights, threads):
    """The workload of a case, see `benchmarks.worker`.

    Args:
        case: Case as a dict.
        style: "jit".
        weights: unused, they come with the model.
        threads: set for the process already; XLA takes the processors it may run on.
    """
    case = cases.Case(**case)
    if case.device == "gpu" and jax.default_backend() != "gpu":
        raise RuntimeError(f"JAX sees no GPU, only {jax.default_backend()}")
    if case.dtype == "float32":
        # On GPUs the default is TensorFloat-32; PyTorch's is full precision.
        jax.config.update("jax_default_matmul_precision", "highest")
    model = case.build_model()
    return {"forward": _Forward, "train": _Train}[case.mode](case, model)


class _Workload:
    def __init__(self, case, model):
        self._case = case
        self._frames = jnp.asarray(case.normalised_frames())
        self._trainable = [variable.value for variable in model.trainable_variables]
        self._fixed = [variable.value for variable in model.non_trainable_variables]

    def gemm_rate(self):
        size = 8192 if self._case.device == "gpu" else 2048
        values = jax.random.uniform(jax.random.key(0), (size, size)).astype(self._case.dtype)
        product = jax.jit(jnp.matmul)
        return best_rate(lambda: product(values, values).block_until_ready(), size)

    def peak_bytes(self):
        statistics = jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use") or peak_host_bytes()


class _Forward(_Workload):
    def __init__(self, case, model):
        super().__init__(case, model)

        @jax.jit
        def forward(trainable, fixed, frames):
            return model.stateless_call(trainable, fixed, frames, training=False)[0]

        self._forward = forward

    def step(self):
        return np.asarray(self._forward(self._trainable, self._fixed, self._frames)).tolist()


class _Train(_Workload):
    def __init__(self, case, model):
        super().__init__(case, model)
        self._targets = jnp.asarray(case.targets())
        optimizer = keras.optimizers.AdamW(
            cases.LEARNING_RATE, weight_decay=cases.WEIGHT_DECAY, global_clipnorm=cases.CLIP_NORM
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
