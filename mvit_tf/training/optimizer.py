"""AdamW as the MViT recipes use it: right clipping over replicas, no decay on 1-D weights."""

import keras
import tensorflow as tf

# Private methods of Keras' AdamW that are overridden or called here, and the slots of its `build`.
_METHODS = (
    "_clip_gradients",
    "_all_reduce_sum_gradients",
    "_apply_weight_decay",
    "_backend_update_step",
    "_use_weight_decay",
    "_get_variable_index",
)
_SLOTS = ("_momentums", "_velocities")
_UNSUPPORTED = {
    "clipnorm": "use global_clipnorm",
    "clipvalue": "use global_clipnorm",
    "amsgrad": "leave it out",
    # Keras decides on both within a condition, in which replicas cannot sum or assign.
    "gradient_accumulation_steps": "a larger batch fits with rematerialisation",
    "ema_overwrite_frequency": "use_ema averages without it",
}


@keras.saving.register_keras_serializable(package="mvit_tf")
class ReplicaAdamW(keras.optimizers.AdamW):
    """AdamW that clips the global norm once, after the gradients of all replicas are summed.

    Keras clips on each replica before the sum, so two replicas take a step of up to twice the
    clip norm. Here one device and several take the same step. And weights of one dimension or
    none (biases, norms' gains) do not decay, as SlowFast's `ZERO_WD_1D_PARAM`, beside those
    named to `exclude_from_weight_decay`, which Keras forgets with each reload.

    A step is one fused operation and one decay a weight. Keras' AdamW builds some thirty, among
    them the learning rate's schedule anew for every weight, half of all that a training step
    takes to trace.

    Clipping and update hang on private methods of Keras' optimizer. Construction fails if
    they are gone, and a step fails if Keras no longer calls the one that clips.

    Args:
        global_clipnorm: the largest allowed global norm of the summed gradient, above 0; `None`
            does not clip.
        **kwargs: of `keras.optimizers.AdamW`, but for those that are refused.

    Raises:
        ValueError: an option that is not honoured is given: another clipping, AMSGrad, gradient
            accumulation, overwriting weights by their average within training.
        RuntimeError: this Keras has no longer what the clipping and the update hang on.
    """

    def __init__(self, learning_rate=1e-3, *, global_clipnorm: float | None = None, **kwargs):
        for name, instead in _UNSUPPORTED.items():
            if kwargs.get(name):
                raise ValueError(f"{name}={kwargs[name]} is not supported; {instead}")
        if global_clipnorm is not None and not global_clipnorm > 0:
            raise ValueError(f"global_clipnorm={global_clipnorm}: must be above 0, or None")
        for name in _METHODS:
            _check_keras(callable(getattr(keras.optimizers.AdamW, name, None)), name)
        super().__init__(learning_rate, global_clipnorm=global_clipnorm, **kwargs)
        self._times_clipped = 0

    def build(self, variables):
        """Creates the slots."""
        super().build(variables)
        for name in _SLOTS:
            _check_keras(len(getattr(self, name, ())) == len(variables), name)

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

    # === Clipping after the sum over replicas ===

    def _clip_gradients(self, grads):
        # Keras calls this before the sum: too early.
        return grads

    def _all_reduce_sum_gradients(self, grads_and_vars):
        self._times_clipped += 1
        grads_and_vars = super()._all_reduce_sum_gradients(grads_and_vars)
        if self.global_clipnorm is None:
            return grads_and_vars
        grads, variables = zip(*grads_and_vars, strict=True)
        # A norm that is not finite makes every gradient NaN, not one of them and others zero.
        clipped, _ = tf.clip_by_global_norm(grads, self.global_clipnorm)
        return list(zip(clipped, variables, strict=True))

    # === Decay and fused update ===

    def _use_weight_decay(self, variable):
        return len(variable.shape) > 1 and super()._use_weight_decay(variable)

    def _apply_weight_decay(self, variables):
        """Done in `update_step`, which has the learning rate at hand."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        # Once for all weights, not once for each: tracing takes longer than computing.
        rate = tf.cast(learning_rate, tf.float32)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        correction = tf.sqrt(1 - tf.pow(self.beta_2, step)) / (1 - tf.pow(self.beta_1, step))
        zero = tf.zeros(())
        numbers = {
            "lr": rate * correction,
            # The operation would correct the moments with these powers; the rate has it done.
            "beta1_power": zero,
            "beta2_power": zero,
            "beta1": tf.constant(self.beta_1),
            "beta2": tf.constant(self.beta_2),
            "epsilon": tf.constant(self.epsilon),
        }
        decay = rate * (self.weight_decay or 0.0)
        super()._backend_update_step(grads, trainable_variables, (decay, numbers))

    def update_step(self, gradient, variable, learning_rate):
        """Decays one weight and applies Adam's update to it, in place.

        Args:
            gradient: of the loss, clipped.
            variable: the weight.
            learning_rate: what `_backend_update_step` makes of it: the share of a weight that
                decays, and the numbers that Adam's operation takes.
        """
        decay, numbers = learning_rate
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign_sub(variable * tf.cast(decay, variable.dtype))
        slot = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[slot].value.handle,
            v=self._velocities[slot].value.handle,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
            **{name: tf.cast(number, variable.dtype) for name, number in numbers.items()},
        )


def _check_keras(there: bool, name: str):
    if not there:
        raise RuntimeError(
            f"keras {keras.__version__} has no keras.optimizers.AdamW.{name}; clipping after the "
            "all-reduce and the fused update have to be hooked in elsewhere"
        )
