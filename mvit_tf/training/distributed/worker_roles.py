"""Who does what where several machines train together: the chief writes, the others follow."""

import collections
import contextlib
import hashlib
import json
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.training.distributed.distribution import is_chief, process_shard
from mvit_tf.training.distributed.worker_exchange import gather_json
from mvit_tf.training.experiments.experiment import Experiment, flat_items
from mvit_tf.training.storage.checkpoints import CheckpointStore, Progress
from mvit_tf.training.storage.model_directory import ModelDirectory

_SECONDS_TO_READ = 2.0
# Keys that say how this machine works, not what is trained.
_OF_ONE_MACHINE = ("data.decode_threads", "data.decode_workers", "train.start_timeout")


class FollowerDirectory(ModelDirectory):
    """The model directory as all but the chief see it: they read it and write nothing."""

    def __init__(self, path):
        super().__init__(path)
        self.checkpoints = _FollowerStore(self.checkpoints.directory)

    @contextlib.contextmanager
    def locked(self):
        """Nothing: the chief holds the lock."""
        yield

    def check_lock(self):
        """Nothing: the chief looks after it."""

    def claim(self, experiment, class_names):
        """Nothing: the chief writes it."""

    def keep_split(self, train, validation):
        """Nothing: the chief writes it."""


class _FollowerStore(CheckpointStore):
    def save(self, model, progress, running_epoch=None):
        """Nothing: the chief saves."""

    def complete_best(self, model, progress):
        """Nothing: the chief completes it."""

    def discard(self, step):
        """Nothing: the chief removes it."""

    def _remove_unfinished(self):
        """Nothing: the chief may be writing it."""


def announce_role(strategy: tf.distribute.Strategy | None):
    """Says which worker this is; from then on all but the chief say only what ends them."""
    index, number = process_shard(strategy)
    if number == 1:
        return
    devices = strategy.num_replicas_in_sync // number
    role = "writes the model directory and the log" if is_chief(strategy) else "follows worker 0"
    logging.info(f"worker      {index} of {number}, {devices} device(s) each, {role}")
    if not is_chief(strategy):
        logging.set_verbosity(min(logging.get_verbosity(), logging.ERROR))


def directory_of_worker(
    strategy: tf.distribute.Strategy | None, directory: ModelDirectory
) -> ModelDirectory:
    """The directory as this process may use it."""
    return directory if is_chief(strategy) else FollowerDirectory(directory.path)


class SharedLedger(OutcomeLedger):
    """The outcomes of all workers' ledgers, as of the last `gather`.

    Args:
        strategy: of several machines.
        own: OutcomeLedger of this worker.
    """

    def __init__(self, strategy: tf.distribute.Strategy, own: OutcomeLedger):
        super().__init__()
        self._strategy = strategy
        self.own = own
        self._of_epoch = {}

    def gather(self, epoch: int | None = None):
        """Takes in what every worker has noted; all workers do so at the same place.

        Args:
            epoch: whose clips to take in too.
        """
        clips = [] if epoch is None else self.own.epoch_entries(epoch)
        found = gather_json(self._strategy, [self.own.entries(), clips])
        self.clear()
        for videos, _ in found:
            for entry in videos:
                damaged = entry.get("damaged", 0.0)
                self.record(entry["path"], entry["outcome"], entry["detail"], damaged=damaged)
        if epoch is not None:
            self._of_epoch = {epoch: _clips_of_all([clips for _, clips in found])}

    def epoch_state(self, epoch, end):
        """See `OutcomeLedger.epoch_state`; of all workers, who do so at the same place."""
        found = gather_json(self._strategy, self.own.epoch_state(epoch, end))
        counts = collections.Counter()
        for state in found:
            counts += collections.Counter(state["counts"])
        entries = [entry for state in found for entry in state["entries"]]
        return {"counts": dict(counts), "entries": sorted(entries, key=lambda e: e["position"])}

    def restore_epoch(self, epoch, state):
        """See `OutcomeLedger.restore_epoch`; the chief has the clips of all, or all would count."""
        self.own.restore_epoch(epoch, state if is_chief(self._strategy) else {})

    def epoch_entries(self, epoch):
        """See `OutcomeLedger.epoch_entries`; of the epoch that was gathered."""
        return self._of_epoch.pop(epoch)


def shared_ledger(strategy: tf.distribute.Strategy | None, own: OutcomeLedger) -> OutcomeLedger:
    """The outcomes of all machines: on one machine its own ledger."""
    return own if process_shard(strategy)[1] == 1 else SharedLedger(strategy, own)


def own_ledger(ledger: OutcomeLedger) -> OutcomeLedger:
    """The ledger that this machine's pipelines note in, of what `shared_ledger` gave."""
    return ledger.own if isinstance(ledger, SharedLedger) else ledger


def gather_outcomes(ledger: OutcomeLedger, epoch: int | None = None):
    """Brings what `shared_ledger` gave up to date, see `SharedLedger.gather`."""
    if isinstance(ledger, SharedLedger):
        ledger.gather(epoch)


def require_same_experiment(
    strategy: tf.distribute.Strategy | None, experiment: Experiment, mode: str
):
    """Refuses workers that were started with different flags.

    Raises:
        UserError: on all workers; the keys that differ are named.
    """
    items = {"--mode": mode, **flat_items(experiment, full_paths=True)}
    _require_same(
        strategy, {key: value for key, value in items.items() if key not in _OF_ONE_MACHINE}
    )


def require_same_videos(
    strategy: tf.distribute.Strategy | None, videos: VideoList, validation: VideoList | None
):
    """Refuses workers that found different videos.

    Raises:
        UserError: on all workers.
    """
    facts = {}
    for key, found in (("data.train", videos), ("validation", validation)):
        if found is not None:
            names = [[found.name(index), found.labels_of(index)] for index in range(len(found))]
            text = json.dumps([names, found.class_names]).encode(errors="backslashreplace")
            digest = hashlib.sha256(text).hexdigest()[:8]
            facts[f"the videos of {key}"] = f"{len(found)} videos, digest {digest}"
    _require_same(strategy, facts)


def require_same_checkpoint(
    strategy: tf.distribute.Strategy | None, progress: Progress | None, directory: ModelDirectory
):
    """Refuses workers that find different checkpoints, for want of a shared directory.

    Before any of them is loaded, which all have to do together: variables are made on the way.

    Args:
        progress: of the newest checkpoint; `None` where there is none.

    Raises:
        UserError: on all workers.
    """
    progress = progress or Progress()
    _require_same_state(strategy, directory, progress, _values(progress))


def require_same_weights(
    strategy: tf.distribute.Strategy | None,
    model: keras.Model,
    progress: Progress,
    directory: ModelDirectory,
):
    """Refuses workers that begin with different weights.

    Raises:
        UserError: on all workers.
    """
    if process_shard(strategy)[1] == 1:
        return
    digest = hashlib.sha256(json.dumps(_values(progress)).encode())
    optimizer = getattr(model, "optimizer", None)
    for variable in [*model.weights, *(optimizer.variables if optimizer else ())]:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    _require_same_state(strategy, directory, progress, digest.hexdigest())


def _require_same_state(strategy, directory, progress, details):
    found = gather_json(strategy, [_place(progress), details])
    for index, other in enumerate(found):
        if other != found[0]:
            _let_others_read(strategy)
            raise UserError(
                f"--model_dir={directory.path}: worker 0 found {found[0][0]} there and worker "
                f"{index} {other[0]}{_too(found[0][0] == other[0])}; all machines must see the "
                "same folder, on a shared file system or an object store"
            )


def _let_others_read(strategy):
    """Waits before this worker ends: one that still reads what was sent would be told of a loss.

    Worker 0 waits longest, as TensorFlow's coordination ends with it.
    """
    time.sleep(2 * _SECONDS_TO_READ if is_chief(strategy) else _SECONDS_TO_READ)


def _values(progress: Progress) -> list[str]:
    return [str(value) for value in vars(progress).values()]


def _place(progress: Progress) -> str:
    if progress.step is None:  # of an older version
        return f"a checkpoint after epoch {progress.epoch}"
    return f"a checkpoint after step {progress.step}" if progress.step else "no checkpoint"


def _too(same_place: bool) -> str:
    return " with other weights" if same_place else ""


def _require_same(strategy, facts: dict):
    found = gather_json(strategy, facts)
    for index, other in enumerate(found):
        differing = [key for key in facts if other.get(key) != found[0].get(key)]
        if differing:
            named = ", ".join(
                f"{key} ({found[0].get(key)!r} on worker 0, {other.get(key)!r} on worker {index})"
                for key in differing[:3]
            )
            _let_others_read(strategy)
            raise UserError(
                f"the workers differ in {named}; start the same command on all machines, on the "
                "same videos"
            )


def _clips_of_all(epochs: list[list[dict]]) -> list[dict]:
    """`OutcomeLedger.epoch_entries` of several workers as that of one."""
    totals = [entries[0] for entries in epochs]
    total = {key: sum(of_one[key] for of_one in totals) for key in totals[0]}
    total["epoch"] = totals[0]["epoch"]
    named = [entry for entries in epochs for entry in entries[1:]]
    return [total, *sorted(named, key=lambda entry: entry["position"])]
