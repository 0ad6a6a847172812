"""What became of every video asked for: nothing is lost silently."""

import collections
import contextlib
import re
import threading

from mvit_tf.errors import UserError
from mvit_tf.files import one_line

OK = "ok"
PADDED = "padded"  # decoded, and shorter than a clip
PARTIAL = "partial"  # decoded but for frames that are damaged, no more than is tolerated
REPLACED = "replaced"  # a training clip whose own video cannot be decoded
_GOOD = (OK, PADDED, PARTIAL)
_FILES_NAMED = 3
# What TensorFlow says where a worker of a tf.data service failed.
_OF_SERVICE = re.compile(
    r"Failed to get element from worker (\S+): (?:.*Failed to get element: )?(.*?)(?: \[|$)", re.S
)
# So many failures without a video in between that can be decoded: not the files are at fault.
_MOST_IN_A_ROW = 20


class OutcomeLedger:
    """One recorded outcome for each video asked for; safe to use from several threads.

    An outcome is "ok", "padded", "partial" or one of `decoding.OUTCOMES`. A failure stays: a later
    "ok" of the same path does not cover it up, while a failure replaces an earlier "ok"; so does
    "partial" beside "ok". Training also has one outcome for each clip asked for, see `record_clip`.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._outcomes = {}
        self._clips = collections.defaultdict(dict)
        self._named = collections.defaultdict(dict)
        # Numbers of clips by outcome that a resumed epoch begins with.
        self._before = collections.defaultdict(collections.Counter)
        self._damaged = {}
        self._in_a_row = collections.Counter()
        self._last_failure = {}
        self._error = None

    @classmethod
    def union(cls, ledgers):
        """A ledger of all outcomes in several."""
        union = cls()
        for ledger in ledgers:
            for path, (outcome, detail) in ledger.outcomes.items():
                union.record(path, outcome, detail, damaged=ledger._damaged.get(path, 0.0))
        return union

    def record(self, path, outcome=OK, detail="", *, damaged=0.0):
        """Notes the outcome of `path`; returns True where it is a new failure.

        Args:
            path: str.
            outcome: str.
            detail: str, what is wrong.
            damaged: float. Share of the frames asked for that are lost, of "partial".
        """
        with self._lock:
            if outcome in _GOOD:
                self._in_a_row.clear()
            else:
                self._in_a_row[outcome] += 1
                self._last_failure = {path: (outcome, detail)}
            before = self._outcomes.get(path, (OK, ""))[0]
            if before not in _GOOD or (before == PARTIAL and outcome in (OK, PADDED)):
                return False
            self._outcomes[path] = (outcome, detail)
            if outcome == PARTIAL:
                self._damaged[path] = damaged
            return outcome not in _GOOD

    def record_clip(self, epoch, position, path, outcome, failed, *, damaged=0.0):
        """Notes what became of a training clip: ok, padded, partial, or replaced by another's.

        Args:
            epoch, position: int, which clip.
            path: str, the video that it is of.
            outcome: str, "ok", "padded" or "partial".
            failed: list of (path, outcome, detail), the videos tried before, the clip's own first.
            damaged: float. Share of the clip's frames that are lost, of "partial".
        """
        with self._lock:
            # By position: Keras takes a batch beforehand, to build a model under a strategy.
            self._clips[epoch][position] = REPLACED if failed else outcome
            entry = {"epoch": epoch, "position": position, "path": path, "outcome": outcome}
            if failed:
                own, reason, detail = failed[0]
                entry |= {"path": own, "outcome": reason, "detail": detail, "replaced_by": path}
            if damaged:
                entry["damaged"] = damaged
            if failed or damaged:
                self._named[epoch][position] = entry

    def stop_after_many_in_a_row(self, outcome=None):
        """Ends a loop over a pipeline where one video after the other fails.

        Args:
            outcome: optional str. Count only failures of this kind.

        Raises:
            UserError: 20 have failed since the last that could be decoded.
        """
        with self._lock:
            in_a_row = self._in_a_row[outcome] if outcome else self._in_a_row.total()
        if in_a_row >= _MOST_IN_A_ROW:
            self._error = UserError(
                f"{in_a_row} videos in a row could not be decoded, last: "
                f"{_first_failures(self._last_failure)}; is a disk or network "
                "folder gone? run the same command again when it is back"
            )
            raise self._error

    def clear(self):
        """Forgets the videos: the next pass over them is judged by itself."""
        with self._lock:
            self._outcomes.clear()
            self._damaged.clear()
            self._in_a_row.clear()

    def end_of_failures(self):
        """Notes that a video could be decoded that is none of those asked for."""
        with self._lock:
            self._in_a_row.clear()

    def failure(self, path):
        """(outcome, detail) on record for `path` if it failed, else None."""
        with self._lock:
            outcome, detail = self._outcomes.get(path, (OK, ""))
        return None if outcome in _GOOD else (outcome, detail)

    def __len__(self):
        """Number of videos asked for so far."""
        with self._lock:
            return len(self._outcomes)

    @property
    def outcomes(self):
        """dict path -> (outcome, detail), in the order first asked for."""
        with self._lock:
            return dict(self._outcomes)

    @property
    def failures(self):
        """dict path -> (outcome, detail) of the videos that failed."""
        return {path: entry for path, entry in self.outcomes.items() if entry[0] not in _GOOD}

    @property
    def partial(self):
        """dict path -> (share of the frames that is lost, detail) of the videos damaged in part."""
        with self._lock:
            return {
                path: (self._damaged[path], detail)
                for path, (outcome, detail) in self._outcomes.items()
                if outcome == PARTIAL
            }

    def summary(self, num_videos=0):
        """One line: how many videos were asked for, how many failed, and of what.

        Args:
            num_videos: int. Videos of the set, where fewer were asked for.
        """
        outcomes = self.outcomes
        asked = max(len(outcomes), num_videos)
        counts = collections.Counter(outcome for outcome, _ in outcomes.values())
        failed = len(outcomes) - sum(counts[outcome] for outcome in _GOOD)
        others = f", {counts[PADDED]} shorter than a clip" if counts[PADDED] else ""
        others += f", {counts[PARTIAL]} with damaged frames" if counts[PARTIAL] else ""
        if not failed:
            return f"{asked} videos, all decoded{others}"
        bad = sorted(item for item in counts.items() if item[0] not in _GOOD)
        kinds = ", ".join(f"{count} {outcome}" for outcome, count in bad)
        return f"{asked} videos, {failed} left out ({kinds}){others}"

    def check(self, max_failure_share, num_videos=0):
        """Stops a run that loses too much.

        Args:
            max_failure_share: float in [0, 1]. Largest bearable share of failed videos among
                those asked for.
            num_videos: int. Videos of the set, where fewer were asked for: a run that goes on
                within an epoch has not seen them all.

        Raises:
            UserError: more failed; the message counts them and names the first few.
        """
        failures = self.failures
        asked = max(len(self), num_videos)
        if asked and len(failures) / asked > max_failure_share:
            raise UserError(
                f"{self.summary(asked)}, more than the share of {max_failure_share:g} allowed; "
                f"first: {_first_failures(failures)}; `mvit check-data` lists all; mend or remove "
                "them, or raise data.max_failure_share"
            )

    def nothing_decoded(self):
        """The UserError to raise where not one video of a list could be decoded."""
        failures = self.failures
        return UserError(
            f"none of the {len(failures)} videos could be decoded; "
            f"first: {_first_failures(failures)}"
        )

    def entries(self):
        """A dict with path, outcome and detail of each video, and the damaged share if partial."""
        with self._lock:
            damaged = {path: {"damaged": share} for path, share in self._damaged.items()}
            return [
                {"path": video, "outcome": outcome, "detail": detail}
                | (damaged.get(video, {}) if outcome == PARTIAL else {})
                for video, (outcome, detail) in self._outcomes.items()
            ]

    def epoch_entries(self, epoch):
        """A dict with the numbers of clips of a training epoch, then one of each that lacks frames.

        Those are the clips replaced, and those damaged in part.

        They are forgotten then.
        """
        with self._lock:
            counts = self._before.pop(epoch, collections.Counter())
            counts = counts + collections.Counter(self._clips.pop(epoch, {}).values())
            named = sorted(self._named.pop(epoch, {}).items())
        total = {"epoch": epoch, "clips": counts.total()}
        total |= {outcome: counts[outcome] for outcome in (*_GOOD, REPLACED)}
        return [total, *(entry for _, entry in named)]

    def epoch_state(self, epoch, end):
        """What is on record of an epoch's clips before the position `end`, for `restore_epoch`.

        Not of the videos that have failed: they are tried again, and may be mended by then.

        Returns:
            dict of plain values.
        """
        with self._lock:
            clips, named = self._clips.get(epoch, {}), self._named.get(epoch, {})
            counts = collections.Counter(o for position, o in clips.items() if position < end)
            counts += self._before.get(epoch, collections.Counter())
            entries = [entry for position, entry in sorted(named.items()) if position < end]
        return {"counts": dict(counts), "entries": entries}

    def restore_epoch(self, epoch, state):
        """Puts an epoch back to an `epoch_state`; what is on record of later ones is forgotten."""
        with self._lock:
            for kept in (self._clips, self._named, self._before):
                for later in [number for number in kept if number >= epoch]:
                    del kept[later]
            self._before[epoch] = collections.Counter(state.get("counts", {}))
            for entry in state.get("entries", ()):
                self._named[epoch][entry["position"]] = entry

    @contextlib.contextmanager
    def user_errors(self):
        """Context in which to run a loop over a pipeline of `pipeline`.

        TensorFlow wraps an exception raised inside tf.data in one of its own. Where the cause
        is that no video could be decoded, or that a worker of a tf.data service failed, this
        raises the UserError that says so.
        """
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            of_service = _OF_SERVICE.search(error.message)
            if of_service:
                raise UserError(
                    f"data.service: its worker {of_service[1]} failed: {of_service[2]}; `mvit "
                    "check-data` names damaged records"
                ) from None
            if self._error is not None:
                raise self._error from None
            if len(self) and len(self.failures) == len(self):
                raise self.nothing_decoded() from None
            raise


def _first_failures(failures):
    named = [
        one_line(f"{path} ({outcome}{': ' if detail else ''}{detail})")
        for path, (outcome, detail) in list(failures.items())[:_FILES_NAMED]
    ]
    more = len(failures) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")
