"""Whether runs bear out a claim: means beside the spread of their seeds."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from mvit_tf.studies.study import Claim

SHOWS, DOES_NOT, REVERSED, OPEN = "shows", "does not show", "the other way round", "open"


@dataclasses.dataclass(frozen=True)
class Summary:
    """The runs of a variant in two numbers.

    Attributes:
        mean: of their scores.
        deviation: the sample standard deviation; None of fewer than two runs.
        runs: how many.
    """

    mean: float
    deviation: float | None
    runs: int


def summarise(scores: Sequence[float]) -> Summary:
    """Mean and sample standard deviation of one score or more."""
    deviation = statistics.stdev(scores) if len(scores) > 1 else None
    return Summary(statistics.fmean(scores), deviation, len(scores))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the runs say to a claim.

    Attributes:
        claim: the claim.
        difference: mean score of `claim.greater` less that of `claim.less`; None where one of them
            has no run.
        spread: standard deviation of the difference between a run of one and a run of the other;
            None where one of them has fewer than two runs.
        published: the same difference in the paper, None where it has none.
        answer: "shows" where the difference is more than the spread, "the other way round" where
            it is less than minus the spread, "does not show" between them; "open" without a
            spread.
        apart: whether every run of `claim.greater` scores more than every run of `claim.less`,
            which one run far below the others of its variant does not change, unlike the spread.
    """

    claim: Claim
    difference: float | None
    spread: float | None
    published: float | None
    answer: str
    apart: bool = False

    def in_words(self) -> str:
        """One line, scores in points of a hundred."""
        said = f"{self.claim.says}: {self.answer}"
        if self.answer == OPEN:
            return f"{said}; it takes two runs or more of each"
        how = {
            SHOWS: "more than the spread",
            DOES_NOT: "within the spread",
            REVERSED: "more than the spread",
        }
        line = (
            f"{said}; {100 * self.difference:+.1f} points of "
            f"{self.claim.score.replace('_', ' ')}, {how[self.answer]} of {100 * self.spread:.1f}"
        )
        if self.apart and self.answer == DOES_NOT:
            line += f", but every run of {self.claim.greater} above all of {self.claim.less}"
        if self.published is not None:
            line += f" (published: {100 * self.published:+.1f})"
        return line


def judge(
    claim: Claim, scores: Mapping[str, Sequence[float]], published: Mapping[str, float | None]
) -> Verdict:
    """Compares two variants.

    Args:
        claim: about them.
        scores: the claim's score of each run, by variant, 0 to 1.
        published: likewise of the paper, None where it says nothing.
    """
    papers = (published.get(claim.greater), published.get(claim.less))
    paper = None if None in papers else papers[0] - papers[1]
    if not (scores.get(claim.greater) and scores.get(claim.less)):
        return Verdict(claim, None, None, paper, OPEN)
    greater, less = summarise(scores[claim.greater]), summarise(scores[claim.less])
    difference = greater.mean - less.mean
    if greater.deviation is None or less.deviation is None:
        return Verdict(claim, difference, None, paper, OPEN)
    spread = math.hypot(greater.deviation, less.deviation)
    answer = SHOWS if difference > 0 else REVERSED
    if abs(difference) <= spread:
        answer = DOES_NOT
    apart = min(scores[claim.greater]) > max(scores[claim.less])
    return Verdict(claim, difference, spread, paper, answer, apart)
