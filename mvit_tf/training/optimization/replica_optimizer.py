"""What the optimizers of the MViT recipes share: one clipping, rates and averages by weight."""

from collections.abc import Mapping

import keras
import tensorflow as tf

# Private methods of Keras' optimizers that are overridden or called here.
_METHODS = (
    "_clip_gradients",
    "_all_reduce_sum_gradients",
    "_apply_weight_decay",
    "_backend_update_step",
    "_use_weight_decay",
    "_get_variable_index",
    "_update_model_variables_moving_average",
)
_AVERAGES = "_model_variables_moving_average"
_UNSUPPORTED = {
    "clipnorm": "use global_clipnorm",
    "clipvalue": "use global_clipnorm",
    "amsgrad": "leave it out",
    # Keras decides on both within a condition, in which replicas cannot sum or assign.
    "gradient_accumulation_steps": "a TrainingModel accumulates within its step",
    "ema_overwrite_frequency": "use_ema averages without it",
}


class ReplicaOptimizer:
    """To be inherited from before an optimizer of Keras, whose steps it makes those of SlowFast.

    Keras clips on each replica before the sum, so two replicas take a step of up to twice the
    clip norm. Here one device and several take the same step. And weights of one dimension or
    none (biases, norms' gains) do not decay, as SlowFast's `ZERO_WD_1D_PARAM`, beside those
    named to `exclude_from_weight_decay`, which Keras forgets with each reload.

    With `use_ema` the average begins at the weights the optimizer is built with, and its decay
    after t earlier steps is min(ema_momentum, (1 + t) / (10 + t)), so that the first weights are
    soon forgotten (TensorFlow's `ExponentialMovingAverage` with `num_updates`). Unlike Keras,
    `fit` does not end by putting the average in place of the weights.

    A subclass updates a weight in `update_step`, where it calls `average`.

    All this hangs on private methods of Keras' optimizer. Construction fails if they are gone,
    and a step fails if Keras no longer calls the one that clips.

    Args:
        global_clipnorm: the largest allowed global norm of the summed gradient, above 0; `None`
            does not clip.
        learning_rate_scales: by the path of a variable what its learning rate is multiplied by,
            above 0; those not named have 1.
        **kwargs: of the optimizer of Keras, but for those that are refused.

    Attributes:
        gradient_norm: float32 scalar variable, the global norm of the last summed gradient,
            before it was clipped.

    Raises:
        ValueError: an option that is not honoured is given: another clipping, AMSGrad, gradient
            accumulation, overwriting weights by their average within training.
        RuntimeError: this Keras has no longer what the clipping and the update hang on.
    """

    def __init__(
        self,
        learning_rate,
        *,
        global_clipnorm: float | None = None,
        learning_rate_scales: Mapping[str, float] | None = None,
        **kwargs,
    ):
        for name, instead in _UNSUPPORTED.items():
            if kwargs.get(name):
                raise ValueError(f"{name}={kwargs[name]} is not supported; {instead}")
        if global_clipnorm is not None and not global_clipnorm > 0:
            raise ValueError(f"global_clipnorm={global_clipnorm}: must be above 0, or None")
        for path, scale in (learning_rate_scales or {}).items():
            if not scale > 0:
                raise ValueError(f"learning_rate_scales[{path!r}]={scale}: must be above 0")
        for name in _METHODS:
            check_keras(callable(getattr(super(), name, None)), name)
        super().__init__(learning_rate, global_clipnorm=global_clipnorm, **kwargs)
        self.learning_rate_scales = dict(learning_rate_scales or {})
        # Of TensorFlow, so that it is no part of the state that is saved.
        self.gradient_norm = tf.Variable(
            0.0,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="gradient_norm",
        )
        self._times_clipped = 0
        self._scales = []

    def build(self, variables):
        """Creates the slots.

        Raises:
            ValueError: `learning_rate_scales` names a variable that is not among `variables`.
        """
        unknown = self.learning_rate_scales.keys() - {variable.path for variable in variables}
        if unknown:
            raise ValueError(f"learning_rate_scales names no variable by {sorted(unknown)[0]!r}")
        super().build(variables)
        self._scales = [self.learning_rate_scales.get(v.path, 1.0) for v in variables]
        if self.use_ema:
            averages = getattr(self, _AVERAGES, ())
            check_keras(len(averages) == len(variables), _AVERAGES)
            for average, variable in zip(averages, variables, strict=True):
                average.assign(variable)

    def apply(self, grads, trainable_variables=None):
        """Takes one step; see `keras.optimizers.Optimizer.apply`."""
        times_clipped = self._times_clipped
        result = super().apply(grads, trainable_variables)
        if self._times_clipped == times_clipped:
            raise RuntimeError(
                f"keras {keras.__version__} did not call _all_reduce_sum_gradients, so the "
                "gradient was not clipped"
            )
        return result

    def get_config(self):
        return {**super().get_config(), "learning_rate_scales": dict(self.learning_rate_scales)}

    # === Clipping after the sum over replicas ===

    def _clip_gradients(self, grads):
        # Keras calls this before the sum: too early.
        return grads

    def _all_reduce_sum_gradients(self, grads_and_vars):
        self._times_clipped += 1
        grads_and_vars = super()._all_reduce_sum_gradients(grads_and_vars)
        grads, variables = zip(*grads_and_vars, strict=True)
        norm = tf.linalg.global_norm(grads)
        self.gradient_norm.assign(tf.cast(norm, tf.float32))
        if self.global_clipnorm is None:
            return grads_and_vars
        # A norm that is not finite makes every gradient NaN, not one of them and others zero.
        clipped, _ = tf.clip_by_global_norm(grads, self.global_clipnorm, use_norm=norm)
        return list(zip(clipped, variables, strict=True))

    # === Decay, rates and averages of single weights, in `update_step` ===

    def _use_weight_decay(self, variable):
        return len(variable.shape) > 1 and super()._use_weight_decay(variable)

    def _apply_weight_decay(self, variables):
        """Done in `update_step`, which has the learning rate at hand."""

    def scale_of(self, variable) -> float:
        """What the learning rate of a weight is multiplied by."""
        return self._scales[self._get_variable_index(variable)]

    # === Moving average of the weights ===

    def ema_decay(self):
        """The share of the average that stays in this step; float32 scalar."""
        if not self.use_ema:
            return None
        earlier = tf.cast(self.iterations.value, tf.float32)
        return tf.minimum(tf.constant(self.ema_momentum), (1 + earlier) / (10 + earlier))

    def average(self, variable, decay):
        """Moves the average of a weight that was just updated; `decay` is of `ema_decay`."""
        if not self.use_ema:
            return
        average = getattr(self, _AVERAGES)[self._get_variable_index(variable)].value
        left = tf.cast(1 - decay, variable.dtype)
        average.assign_sub((average - variable) * left)

    def averages(self, variables) -> list:
        """The moving averages of weights; without `use_ema` there are none."""
        if not self.use_ema:
            return []
        return [getattr(self, _AVERAGES)[self._get_variable_index(v)] for v in variables]

    def _update_model_variables_moving_average(self, trainable_variables):
        """Done in `update_step`, on the device of each replica."""

    def finalize_variable_values(self, var_list):
        """Leaves the weights as they are: the average has slots of its own."""


def check_keras(there: bool, name: str):
    """Raises RuntimeError if Keras' optimizers have no longer `name`."""
    if not there:
        raise RuntimeError(
            f"keras {keras.__version__} has no optimizer with {name}; clipping after the "
            "all-reduce and the fused update have to be hooked in elsewhere"
        )
