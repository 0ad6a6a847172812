"""What is said of each video, as text for eyes, JSON lines or CSV.

Imports nothing heavy: the command line lists the formats.
"""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from mvit_tf.errors import UserError
from mvit_tf.files import one_line, printable
from mvit_tf.urls import is_url, without_secrets

FORMATS = ("table", "jsonl", "csv")
_COLUMNS = ("video", "start", "end", "rank", "class", "probability", "error")


class PredictionFormat:
    """Turns predictions and failures into lines.

    Args:
        name: one of `FORMATS`.
        top: classes of a video that are named; JSON lines name all.
        threshold: of a multi-label model, the probability from which on a class is named.
    """

    def __init__(self, name: str, *, top: int = 5, threshold: float = 0.5):
        self.name, self._top, self._threshold = name, top, threshold

    @property
    def header(self) -> str:
        """What comes before all lines."""
        return _csv_row(_COLUMNS) if self.name == "csv" else ""

    def prediction(self, video, prediction) -> str:
        """What is said of a `VideoInput` with a `Prediction`, with the line breaks."""
        if self.name == "jsonl":
            values = {**_facts(video), "probabilities": dict(prediction.top())}
            if prediction.multi_label:
                found = prediction.at_least(self._threshold)
                values["classes"] = [name for name, _ in found]
            return json.dumps(values) + "\n"
        ranked = prediction.top(self._top)
        if self.name == "csv":
            place = _place(video)
            return "".join(
                _csv_row([*place, rank, name, f"{value:.6f}", ""])
                for rank, (name, value) in enumerate(ranked, start=1)
            )
        name = one_line(_name(video))
        if prediction.multi_label:
            found = prediction.at_least(self._threshold)[: self._top]
            none = f"{name}: no class at {self._threshold:.0%} or more; the nearest are"
            name, ranked = (name, found) if found else (none, ranked)
        return format_prediction(name, ranked) + "\n"

    def failure(self, video, error) -> str:
        """What is said of a `VideoInput` with a `DecodeError`, for machines."""
        if self.name == "jsonl":
            entry = {**_facts(video), "error": error.outcome, "detail": error.detail}
            return json.dumps(entry) + "\n"
        if self.name == "csv":
            return _csv_row([*_place(video), "", "", "", f"{error.outcome}: {error.detail}"])
        return ""

    def spans(self, scan) -> str:
        """What is said of a `VideoScan`."""
        if self.name == "jsonl":
            return json.dumps(scan.to_dict()) + "\n"
        if self.name == "csv":
            video = one_line(without_secrets(scan.path))
            return "".join(
                _csv_row(
                    [video, f"{s.start:.3f}", f"{s.end:.3f}", "", s.label, f"{s.score:.6f}", ""]
                )
                for s in scan.spans
            )
        lines = [
            f"  {_clock(span.start):>9} - {_clock(span.end):>9}  {span.score:6.1%}  {span.label}"
            for span in scan.spans
        ]
        none = "" if lines else f": no class at {self._threshold:.0%} or more"
        return "\n".join([one_line(without_secrets(scan.path)) + none, *lines]) + "\n"

    def live(self, answer) -> str:
        """What is said of a `LivePrediction`."""
        ranked = answer.prediction.top(self._top)
        if answer.prediction.multi_label:
            ranked = answer.prediction.at_least(self._threshold)[: self._top]
        if self.name == "jsonl":
            values = {
                "time": round(answer.time, 3),
                "lag": round(answer.lag, 3),
                "probabilities": dict(answer.prediction.top()),
            }
            if answer.prediction.multi_label:
                values["classes"] = [name for name, _ in ranked]
            return json.dumps(values) + "\n"
        if self.name == "csv":
            source = one_line(without_secrets(answer.prediction.path))
            return "".join(
                _csv_row([source, "", f"{answer.time:.3f}", rank, name, f"{value:.6f}", ""])
                for rank, (name, value) in enumerate(ranked, start=1)
            )
        said = ", ".join(f"{name} {value:.1%}" for name, value in ranked) or "-"
        return f"{_clock(answer.time):>9}  lag {answer.lag:5.2f} s  {said}\n"


def format_prediction(video: str, ranked: list[tuple[str, float]]) -> str:
    """A video's name and below it its (class name, probability) pairs, one a line."""
    lines = [f"  {probability:6.1%}  {name}" for name, probability in ranked]
    return "\n".join([video, *lines])


@contextlib.contextmanager
def line_writer(file: str | None, header: str = "") -> Iterator:
    """Context with a function that writes text at once, so that an end at any time loses none.

    Args:
        file: path of the file, which is made, or emptied, with the first text; standard output
            when `None`.
        header: what comes before the first text.

    Raises:
        UserError: the file cannot be written.
    """
    if file is None:
        sys.stdout.write(header)

        def write(text):
            sys.stdout.write(text)
            sys.stdout.flush()

        yield write
        return
    if is_url(file):
        raise UserError(f"--output={without_secrets(file)}: give a file of this machine")
    if Path(file).is_dir():
        raise UserError(f"--output={file} is a folder; name a file in it")
    if not Path(file).absolute().parent.is_dir():
        raise UserError(f"--output={file}: there is no folder {Path(file).absolute().parent}")
    with contextlib.ExitStack() as stack:
        opened = []

        def write(text):
            try:
                if not opened:
                    opened.append(
                        stack.enter_context(open(file, "w", encoding="utf-8", newline=""))
                    )
                    opened[0].write(header)
                opened[0].write(printable(text))
                opened[0].flush()
            except OSError as error:
                raise UserError(f"--output={file} cannot be written: {error.strerror}") from None

        yield write


def _clock(seconds):
    """ "1:02:03.4", or "2:03.4" of less than an hour."""
    tenths = round(seconds * 10)
    hours, tenths = divmod(tenths, 36000)
    minutes, tenths = divmod(tenths, 600)
    text = f"{tenths / 10:04.1f}"
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def _facts(video):
    facts = {"video": without_secrets(video.path)}
    if video.segment is not None:
        facts["start"], facts["end"] = video.segment
    if video.labels is not None:
        facts["labels"] = list(video.labels)
    return facts


def _name(video):
    name = without_secrets(video.path)
    return name if video.segment is None else name + " {:.10g}-{:.10g} s".format(*video.segment)


def _place(video):
    start, end = video.segment or ("", "")
    return [one_line(without_secrets(video.path)), start, end]


def _csv_row(values):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
