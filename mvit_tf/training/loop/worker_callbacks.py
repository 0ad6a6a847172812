"""The callbacks of each worker where several machines train together."""

import keras
import tensorflow as tf

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.training.distributed.distribution import is_chief, process_shard
from mvit_tf.training.distributed.worker_roles import SharedLedger
from mvit_tf.training.loop import callbacks

# Callbacks that write into the model directory.
_WRITERS = (callbacks.LedgerCheck, callbacks.EpochLog)


def worker_callbacks(
    strategy: tf.distribute.Strategy | None,
    chiefs: list[keras.callbacks.Callback],
    *,
    training: OutcomeLedger,
    validation: OutcomeLedger,
    max_failure_share: float,
    num_videos: int = 0,
) -> list[keras.callbacks.Callback]:
    """The callbacks of this process: on one machine, those of the chief.

    Over several, the ledger of training is gathered before the chief's `LedgerCheck`, all judge
    what all have noted, and what writes runs on the chief only.

    Args:
        chiefs: the callbacks, a `LedgerCheck` among them.
        training, validation: as `shared_ledger` gave them.
        max_failure_share, num_videos: of the `LedgerCheck`.
    """
    if process_shard(strategy)[1] == 1:
        return chiefs
    own = []
    for callback in chiefs:
        if isinstance(callback, callbacks.LedgerCheck):
            own.append(GatherOutcomes(training))
            if not is_chief(strategy):
                own.append(FailureCheck(training, validation, max_failure_share, num_videos))
        if is_chief(strategy) or not isinstance(callback, _WRITERS):
            own.append(callback)
    return own


class GatherOutcomes(keras.callbacks.Callback):
    """Gathers what all workers have noted of an epoch's clips at its end.

    Args:
        ledger: SharedLedger.
    """

    def __init__(self, ledger: SharedLedger):
        super().__init__()
        self._ledger = ledger

    def on_epoch_end(self, epoch, logs=None):
        self._ledger.gather(epoch)


class FailureCheck(keras.callbacks.Callback):
    """Ends the training where the chief's `LedgerCheck` ends it; writes nothing.

    Args:
        training, validation, max_failure_share, num_videos: of the `LedgerCheck`.
    """

    def __init__(
        self,
        training: OutcomeLedger,
        validation: OutcomeLedger,
        max_failure_share: float,
        num_videos: int = 0,
    ):
        super().__init__()
        self._training, self._validation = training, validation
        self._max_failure_share = max_failure_share
        self._num_videos = num_videos

    def on_epoch_end(self, epoch, logs=None):
        self._training.check(self._max_failure_share, self._num_videos)
        self._validation.check(self._max_failure_share)
