"""AdamW as the MViT recipes use it: right clipping over replicas, no decay on 1-D weights."""

import keras
import tensorflow as tf

_HOOKS = (
    "_clip_gradients",
    "_all_reduce_sum_gradients",
    "_apply_weight_decay",
    "_backend_update_step",
)


@keras.saving.register_keras_serializable(package="mvit_tf")
class ReplicaAdamW(keras.optimizers.AdamW):
    """AdamW that clips the global norm once, after the gradients of all replicas are summed.

    Keras clips on each replica before the sum, so two replicas take a step of up to twice the
    clip norm. Here one device and several take the same step. And weights of one dimension or
    none (biases, norms' gains) do not decay, as SlowFast's `ZERO_WD_1D_PARAM`; Keras' own
    `exclude_from_weight_decay` is lost with each reload, this is not.

    A step is one fused operation and one decay a weight. Keras' AdamW builds some thirty, among
    them the learning rate's schedule anew for every weight, half of all that a training step
    takes to trace.

    Clipping and update hang on private methods of Keras' optimizer. Construction fails if
    they are gone, and a step fails if Keras no longer calls the one that clips.

    Args:
        global_clipnorm: the largest allowed global norm of the summed gradient.
        **kwargs: of `keras.optimizers.AdamW`; the other two clipping options and AMSGrad are
            refused.

    Raises:
        ValueError: `clipnorm`, `clipvalue` or `amsgrad` is given.
        RuntimeError: this Keras has no longer the methods that the clipping hangs on.
    """

    def __init__(self, learning_rate=1e-3, *, global_clipnorm: float | None = None, **kwargs):
        for name in ("clipnorm", "clipvalue"):
            if kwargs.get(name) is not None:
                raise ValueError(f"{name}={kwargs[name]} is not supported; use global_clipnorm")
        if kwargs.get("amsgrad"):
            raise ValueError("amsgrad=True is not supported")
        for hook in _HOOKS:
            if not callable(getattr(keras.optimizers.AdamW, hook, None)):
                raise RuntimeError(
                    f"keras {keras.__version__} has no keras.optimizers.AdamW.{hook}; clipping "
                    "after the all-reduce has to be hooked in elsewhere"
                )
        super().__init__(learning_rate, global_clipnorm=global_clipnorm, **kwargs)
        self._times_clipped = 0

    def build(self, variables):
        """Creates the slots; excludes weights of at most one dimension from decay."""
        if not self.built:
            flat = [variable for variable in variables if len(variable.shape) <= 1]
            self.exclude_from_weight_decay(var_list=flat)
        super().build(variables)

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

    def _apply_weight_decay(self, variables):
        """Done in `update_step`, which has the learning rate at hand."""

    def _clip_gradients(self, grads):
        # Keras calls this before the sum over replicas: too early.
        return grads

    def _all_reduce_sum_gradients(self, grads_and_vars):
        self._times_clipped += 1
        grads_and_vars = super()._all_reduce_sum_gradients(grads_and_vars)
        if self.global_clipnorm is None:
            return grads_and_vars
        grads, variables = zip(*grads_and_vars, strict=True)
        norm = tf.linalg.global_norm(grads)
        # A norm that is not finite makes every gradient NaN, not one of them and others zero.
        scale = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
        scale = tf.where(tf.math.is_finite(norm), scale, float("nan"))
        clipped = [None if grad is None else grad * tf.cast(scale, grad.dtype) for grad in grads]
        return list(zip(clipped, variables, strict=True))
