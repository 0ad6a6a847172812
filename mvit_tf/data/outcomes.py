"""What became of every video asked for: nothing is lost silently."""

import collections
import contextlib
import json
import pathlib
import threading

from mvit_tf.errors import UserError
from mvit_tf.files import write_text_atomically

OK = "ok"
_FILES_NAMED = 3


class OutcomeLedger:
    """One recorded outcome for each video asked for; safe to use from several threads.

    An outcome is "ok" or one of `decoding.OUTCOMES`. A failure stays: a later "ok" of the same
    path does not cover it up, while a failure replaces an earlier "ok".
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._outcomes = {}

    @classmethod
    def union(cls, ledgers):
        """A ledger of all outcomes in several."""
        union = cls()
        for ledger in ledgers:
            for path, (outcome, detail) in ledger.outcomes.items():
                union.record(path, outcome, detail)
        return union

    def record(self, path, outcome=OK, detail=""):
        """Notes the outcome of `path`; returns True where it is a new failure."""
        with self._lock:
            failed_before = self._outcomes.get(path, (OK, ""))[0] != OK
            if failed_before:
                return False
            self._outcomes[path] = (outcome, detail)
            return outcome != OK

    def failure(self, path):
        """The outcome on record for `path` if it is a failure, else None."""
        with self._lock:
            outcome, _ = self._outcomes.get(path, (OK, ""))
        return None if outcome == OK else outcome

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
        return {path: entry for path, entry in self.outcomes.items() if entry[0] != OK}

    def summary(self):
        """One line: how many videos were asked for, how many failed, and of what."""
        outcomes = self.outcomes
        counts = collections.Counter(outcome for outcome, _ in outcomes.values())
        failed = len(outcomes) - counts[OK]
        if not failed:
            return f"{len(outcomes)} videos, all decoded"
        kinds = ", ".join(
            f"{count} {outcome}" for outcome, count in sorted(counts.items()) if outcome != OK
        )
        return f"{len(outcomes)} videos, {failed} left out ({kinds})"

    def check(self, max_failure_share):
        """Stops a run that loses too much.

        Args:
            max_failure_share: float in [0, 1]. Largest bearable share of failed videos among
                those asked for.

        Raises:
            UserError: more failed; the message counts them and names the first few.
        """
        failures = self.failures
        asked = len(self)
        if asked and len(failures) / asked > max_failure_share:
            raise UserError(
                f"{self.summary()}, more than the share of {max_failure_share:g} allowed; "
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

    def write(self, path):
        """Writes one JSON object a line: path, outcome, detail."""
        entries = (
            {"path": video, "outcome": outcome, "detail": detail}
            for video, (outcome, detail) in self.outcomes.items()
        )
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        write_text_atomically(pathlib.Path(path), "".join(lines))

    @contextlib.contextmanager
    def user_errors(self):
        """Context in which to run a loop over a pipeline of `pipeline`.

        TensorFlow wraps an exception raised inside tf.data in one of its own. Where the cause
        is that no video could be decoded, this raises the UserError that says so.
        """
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError:
            if len(self) and len(self.failures) == len(self):
                raise self.nothing_decoded() from None
            raise


def _first_failures(failures):
    named = [
        f"{path} ({outcome}{': ' if detail else ''}{detail})"
        for path, (outcome, detail) in list(failures.items())[:_FILES_NAMED]
    ]
    more = len(failures) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")
