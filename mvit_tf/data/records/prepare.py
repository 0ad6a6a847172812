"""Makes a record set on this machine, and goes on with one that was interrupted."""

import collections
import contextlib
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.records.manifest import Manifest, read_manifest, write_manifest
from mvit_tf.data.records.plan import differences, written_labels
from mvit_tf.data.records.shards import Unfinished, encode_member, is_intact, write_shard
from mvit_tf.data.records.storage import exists, is_remote
from mvit_tf.data.video.decode_workers import DecodeWorkers
from mvit_tf.errors import UserError
from mvit_tf.files import held_file

_NAMED = 3


def prepare(plan, make_shards, *, max_failure_share, show=lambda done, total: None):
    """Makes the files of a plan that are not there yet, and then the manifest.

    What is made is the same byte by byte, however many processes make it and however often they
    are interrupted.

    Args:
        plan: Plan.
        make_shards: such as `LocalShards` and `BeamShards`: function of (plan, list of numbers of
            files, function of a number and its Shard to be called when that is complete, function
            of how many videos more are done).
        max_failure_share: float in [0, 1]. Largest bearable share of videos without a record.
        show: function of (done, total), called with numbers of videos.

    Returns:
        (Manifest, how many of its files were there already).

    Raises:
        UserError: the files there are of another list or other options; a disk is full; or more
            videos fail. What was finished is kept in each case.
    """
    unfinished = Unfinished(plan)
    with _disk_errors(plan), contextlib.ExitStack() as stack:
        if not is_remote(plan.output):  # Those have no locks.
            os.makedirs(unfinished.folder, exist_ok=True)
            try:
                stack.enter_context(held_file(Path(unfinished.folder, "lock")))
            except BlockingIOError:
                raise UserError(f"{plan.output}: another process prepares it just now") from None
        try:
            known = _known_shards(plan, unfinished)
        except UserError:
            stack.close()
            unfinished.remove_if_empty()
            raise
        unfinished.begin()
        shards = {number: shard for number, shard in known.items() if is_intact(plan, shard)}
        found = len(shards)
        for number, shard in shards.items():
            unfinished.finish(number, shard)
        done = sum(len(plan.members[number]) for number in shards)
        missing = [number for number in range(plan.num_shards) if number not in shards]

        def finish(number, shard):
            unfinished.finish(number, shard)
            shards[number] = shard

        def advance(count=1):
            nonlocal done
            done += count
            show(done, len(plan.videos))

        advance(0)
        make_shards(plan, missing, finish, advance)
        manifest = Manifest(
            plan.options,
            plan.videos.class_names,
            tuple(shards[number] for number in range(plan.num_shards)),
        )
        _check_failures(manifest, max_failure_share)
        write_manifest(plan.manifest_path, manifest)
        stack.close()
        unfinished.remove()
    return manifest, found


class LocalShards:
    """Makes files one after the other, their videos in worker processes.

    Args:
        count: int, worker processes.
        time_limit: float, seconds without a frame after which one is stopped.
    """

    def __init__(self, count, time_limit):
        self._count = count
        self._time_limit = time_limit

    def __call__(self, plan, numbers, finish, advance):
        ledger = OutcomeLedger()
        with (
            DecodeWorkers(self._count, time_limit=self._time_limit) as workers,
            ThreadPoolExecutor(self._count) as pool,
        ):
            try:
                indices = [index for number in numbers for index in plan.members[number]]
                encoded = self._in_order(plan, indices, workers, pool, ledger, advance)
                for number in numbers:
                    members = (next(encoded) for _ in plan.members[number])
                    finish(number, write_shard(plan, number, members))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                workers.close()
                raise

    def _in_order(self, plan, indices, workers, pool, ledger, advance):
        """Yields what `encode_member` gives, with so many videos begun that no worker waits."""
        rest, begun = iter(indices), collections.deque()
        while True:
            while len(begun) < 2 * self._count and (index := next(rest, None)) is not None:
                begun.append((index, pool.submit(encode_member, plan, index, workers.run)))
            if not begun:
                return
            index, future = begun.popleft()
            made = future.result()
            if isinstance(made, Exception):
                ledger.record(plan.videos.name(index), made.outcome, made.detail)
                ledger.stop_after_many_in_a_row()
            else:
                ledger.record(plan.videos.name(index))
            advance()
            yield made


def _known_shards(plan, unfinished):
    """Number -> Shard, of the files that an earlier run says are finished.

    Raises:
        UserError: it made them of another list or with other options.
    """
    if exists(plan.manifest_path):
        manifest = read_manifest(plan.manifest_path)
        names = manifest.class_names
        listed = {
            (one.source, one.segment): written_labels(one.labels, one.intervals, names)
            for shard in manifest.shards
            for one in (*shard.records, *shard.failures)
        }
        before = manifest.options, names, listed
        shards = dict(enumerate(manifest.shards))
    else:
        before = unfinished.plan_made()
        found = {number: unfinished.shard(number) for number in range(plan.num_shards)}
        shards = {number: shard for number, shard in found.items() if shard is not None}
    if before is None:
        return {}
    changed = differences(plan, *before)
    if changed:
        raise UserError(
            f"{plan.output}: the files of '{plan.name}' there were made otherwise: "
            f"{'; '.join(changed)}; take that back, or give another folder or --name"
        )
    return shards


def _check_failures(manifest, max_failure_share):
    counts = manifest.counts()
    share = counts["failures"] / counts["videos"]
    if counts["records"] and share <= max_failure_share:
        return
    failures = [failure for shard in manifest.shards for failure in shard.failures]
    named = "; ".join(f"{one.source} ({one.outcome}: {one.detail})" for one in failures[:_NAMED])
    raise UserError(
        f"{counts['failures']} of {counts['videos']} videos could not be prepared, more than the "
        f"share of {max_failure_share:g} allowed; first: {named}; mend them or raise "
        "--max_failure_share, and run the same command again: what is finished is kept"
    )


@contextlib.contextmanager
def _disk_errors(plan):
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{plan.output}: the disk is full; finished files are kept, and the same command "
                "goes on when there is room"
            ) from None
        reason = error.strerror or error
        raise UserError(f"{plan.output} cannot be written: {reason}") from None
