"""AdamW and SGD as the MViT recipes use them: the steps of PyTorch, one for all replicas."""

import keras
import tensorflow as tf

from mvit_tf.training.optimization.replica_optimizer import ReplicaOptimizer, check_keras


@keras.saving.register_keras_serializable(package="mvit_tf")
class ReplicaAdamW(ReplicaOptimizer, keras.optimizers.AdamW):
    """AdamW that clips the global norm once, after the gradients of all replicas are summed.

    Of the learning rate r and the decay d, as PyTorch's:

        weight -= r * d * weight
        weight -= r * m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    Keras adds epsilon to sqrt(v), which in the first steps makes it 30 times as large.

    A step is one fused operation and one decay a weight. Keras' AdamW builds some thirty, among
    them the learning rate's schedule anew for every weight, half of all that a training step
    takes to trace.

    Args:
        **kwargs: of `ReplicaOptimizer` and `keras.optimizers.AdamW`.
    """

    def build(self, variables):
        """Creates the slots."""
        super().build(variables)
        for name in ("_momentums", "_velocities"):
            check_keras(len(getattr(self, name, ())) == len(variables), name)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        # Once for all weights, not once for each: tracing takes longer than computing.
        rate = tf.cast(learning_rate, tf.float32)
        number = tf.cast(self.iterations.value + 1, tf.float32)
        root = tf.sqrt(1 - tf.pow(self.beta_2, number))
        zero = tf.zeros(())
        numbers = {
            # The operation would correct the moments by these powers; rate and epsilon do it.
            "beta1_power": zero,
            "beta2_power": zero,
            "beta1": tf.constant(self.beta_1),
            "beta2": tf.constant(self.beta_2),
            "epsilon": self.epsilon * root,
        }
        corrected = rate * root / (1 - tf.pow(self.beta_1, number))
        step = (rate * (self.weight_decay or 0.0), corrected, numbers, self.ema_decay())
        super()._backend_update_step(grads, trainable_variables, step)

    def update_step(self, gradient, variable, learning_rate):
        """Decays one weight and applies Adam's update to it, in place.

        Args:
            gradient: of the loss, clipped.
            variable: the weight.
            learning_rate: what `_backend_update_step` makes of it: the share of a weight that
                decays, the corrected rate, the other numbers that Adam's operation takes, and
                the decay of the average.
        """
        decay, rate, numbers, ema_decay = learning_rate
        scale = self.scale_of(variable)
        if self.weight_decay and self._use_weight_decay(variable):
            variable.assign_sub(variable * tf.cast(decay * scale, variable.dtype))
        slot = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[slot].value.handle,
            v=self._velocities[slot].value.handle,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
            lr=tf.cast(rate * scale, variable.dtype),
            **{name: tf.cast(number, variable.dtype) for name, number in numbers.items()},
        )
        self.average(variable, ema_decay)


@keras.saving.register_keras_serializable(package="mvit_tf")
class ReplicaSGD(ReplicaOptimizer, keras.optimizers.SGD):
    """SGD that clips the global norm once, after the gradients of all replicas are summed.

    As PyTorch's: the decay d is of the L2 penalty, added to the (clipped) gradient, and the
    learning rate r multiplies what the buffer b holds, so that it acts at once when it changes:

        g = gradient + d * weight
        b = momentum * b + g
        weight -= r * (g + momentum * b  if nesterov else  b)

    Keras keeps r * g in the buffer and decays the weight apart from the gradient.

    Args:
        **kwargs: of `ReplicaOptimizer` and `keras.optimizers.SGD`.
    """

    def build(self, variables):
        """Creates the slots."""
        super().build(variables)
        if self.momentum:
            check_keras(len(getattr(self, "momentums", ())) == len(variables), "momentums")

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        step = (tf.cast(learning_rate, tf.float32), self.ema_decay())
        super()._backend_update_step(grads, trainable_variables, step)

    def update_step(self, gradient, variable, learning_rate):
        """Updates one weight, in place.

        Args:
            gradient: of the loss, clipped.
            variable: the weight.
            learning_rate: what `_backend_update_step` makes of it: the rate, and the decay of the
                average.
        """
        rate, ema_decay = learning_rate
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        if self.weight_decay and self._use_weight_decay(variable):
            gradient += self.weight_decay * variable
        rate = tf.cast(rate * self.scale_of(variable), variable.dtype)
        if self.momentum:
            slot = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=self.momentums[slot].value.handle,
                lr=rate,
                grad=gradient,
                momentum=tf.cast(self.momentum, variable.dtype),
                use_nesterov=self.nesterov,
            )
        else:
            variable.assign_sub(rate * gradient)
        self.average(variable, ema_decay)
