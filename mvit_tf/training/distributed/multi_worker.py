"""`fit` of Keras over several machines, by `MultiWorkerMirroredStrategy`.

Keras 3 fails there twice: it averages the first batch of all machines, of which each machine has
only its own part, to build the model; and it averages numbers over an axis that they do not have.
Both are mended here, at two private methods of Keras' trainer.
"""

import keras
import tensorflow as tf

from mvit_tf.training.distributed.distribution import process_shard

# Private methods of Keras' trainer that are overridden or called here.
_METHODS = ("_make_function", "_maybe_symbolic_build", "_symbolic_build")


class MultiWorkerFit:
    """Mixin before a `keras.Model` whose `fit` and `evaluate` work on several machines too.

    On one machine it changes nothing. Metrics are of all machines together, and the same on each.

    Raises:
        RuntimeError: this Keras has no longer what this hangs on.
    """

    def __init__(self, *args, **kwargs):
        for name in _METHODS:
            if not callable(getattr(keras.Model, name, None)):
                raise RuntimeError(
                    f"keras {keras.__version__} has no keras.Model.{name}; fit over several "
                    "machines has to be hooked in elsewhere"
                )
        super().__init__(*args, **kwargs)

    def _on_several_machines(self) -> bool:
        return process_shard(self.distribute_strategy)[1] > 1

    def _make_function(self, step_function):
        """Lets a step give its logs the axis over which Keras averages them."""
        if not self._on_several_machines():
            return super()._make_function(step_function)

        def step(data):
            logs = step_function(data)
            return keras.tree.map_structure(lambda log: tf.reshape(log, [1]), logs)

        return super()._make_function(step)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds by the shapes of this machine's batches; none is decoded for it."""
        if iterator is None or not self._on_several_machines():
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
            return
        spec = iterator._get_iterator().element_spec
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=keras.tree.map_structure(_of_one_device, spec))


def distribute_clips(
    strategy: tf.distribute.Strategy | None, clips: tf.data.Dataset
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """What `fit` takes: of several machines, each one's own batches over its own devices.

    Args:
        clips: on several machines those of this one, see `training_clips`; each batch is split by
            rows over the devices. On one machine whole batches, which Keras splits itself.
    """
    number = process_shard(strategy)[1]
    if number == 1:
        return clips
    batches = split_batches(clips, strategy.num_replicas_in_sync // number)
    return strategy.distribute_datasets_from_function(lambda _: batches)


def split_batches(batches: tf.data.Dataset, number: int) -> tf.data.Dataset:
    """So many smaller batches, in their order, for each batch."""
    if number == 1:
        return batches

    def split(*batch):
        def in_parts(x):
            return tf.reshape(x, [number, x.shape[0] // number, *x.shape[1:]])

        return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(in_parts, batch))

    return batches.flat_map(split)


def _of_one_device(spec):
    """The shape and dtype of what the first device of this machine takes."""
    spec = getattr(spec, "_value_specs", (spec,))[0]
    return keras.KerasTensor(spec.shape, spec.dtype.name)
