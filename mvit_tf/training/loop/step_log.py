"""What a training tells of its steps: speed, waiting for input, loss, learning rate, gradient."""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping

import keras
from absl import logging

from mvit_tf.training.loop.input_clock import InputClock
from mvit_tf.training.loop.summaries import Summaries

# Seconds between two states of the live line.
_REFRESH = 0.5


@dataclasses.dataclass(frozen=True)
class Elapsed:
    """Training steps and the time they took.

    Attributes:
        steps: number of steps.
        seconds: from the begin of the first to the end of the last, without what lies between
            epochs.
        waited: seconds of these in which a step waited for its batch.
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def since(self, before: "Elapsed") -> "Elapsed":
        """What has elapsed since an earlier state."""
        return Elapsed(
            self.steps - before.steps, self.seconds - before.seconds, self.waited - before.waited
        )

    def rates(self, clips_per_step: int, *, measured: bool) -> dict[str, float]:
        """`clips_per_second` and, of a measured input, `waiting_share`; empty without a step."""
        if not self.steps or self.seconds <= 0:
            return {}
        rates = {"clips_per_second": self.steps * clips_per_step / self.seconds}
        if measured:
            rates["waiting_share"] = min(self.waited / self.seconds, 1.0)
        return rates


class StepLog(keras.callbacks.Callback):
    """Tells how the steps go: a live line on a terminal, elsewhere a line now and then.

    Nothing but the begin of each step is looked at, and the numbers of the model only when they
    are shown. The first step, which compiles, counts in no rate. The rates of an epoch are added to
    its logs, as `clips_per_second` and `waiting_share`; so this has to come before the callbacks
    that read those, and before what validates, which is no time of training.

    Args:
        clips_per_step: clips of a batch, over all devices.
        steps_per_epoch: training steps in an epoch.
        epochs: epochs in all.
        clock: of the batches that `fit` is given; `None` leaves out the share of waiting.
        log_interval: seconds between two lines; `None` is a line with each point of the curves.
        summaries: where scalars go every `summary_interval` steps; `None` writes none.
        summary_interval: steps between two points of the curves.
        show: shows a text in place of the one before, see `live_line`; `None` logs lines.
    """

    def __init__(
        self,
        *,
        clips_per_step: int,
        steps_per_epoch: int,
        epochs: int,
        clock: InputClock | None = None,
        log_interval: float | None = 30.0,
        summaries: Summaries | None = None,
        summary_interval: int = 20,
        show: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self._clips_per_step = clips_per_step
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._clock = clock
        self._interval = log_interval if show is None else _REFRESH
        self._summaries = summaries
        self._summary_interval = summary_interval
        self._show = show
        self._epoch = 0

    def on_train_begin(self, logs=None):
        if self._clock is not None:
            self._clock.restart()
        self._compiled = False
        self._elapsed = self._at_epoch = self._at_line = self._at_summary = Elapsed()
        self._waited_before = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._steps = self._counted = 0
        self._last_begin = self._last_line = time.monotonic()
        self._means = (0.0, {})
        self._at_summary_steps = 0
        self._at_epoch = self._elapsed

    def on_train_batch_begin(self, batch, logs=None):
        self._account()
        if not self._steps and self._count():  # goes on within the epoch
            self._means = self._count(), self._metrics()
        if self._steps:
            point = self._steps - self._at_summary_steps >= self._summary_interval
            if point:
                self._summarise()
            if point if self._interval is None else self._seconds_silent() >= self._interval:
                self._tell()
        executed = self.model.steps_per_execution
        self._steps += executed
        if self._clock is not None:
            self._clock.step_begins(executed)

    def on_epoch_end(self, epoch, logs=None):
        self._account()
        if self._steps > self._at_summary_steps:
            self._summarise()
        logs.update(self._rates(self._at_epoch))
        if self._show is not None:
            self._show(f"epoch {epoch + 1}/{self._epochs}: {self._steps} steps done")

    def _seconds_silent(self) -> float:
        return time.monotonic() - self._last_line

    def _account(self):
        """Adds what has elapsed since the step before began."""
        now = time.monotonic()
        steps = self._steps - self._counted
        waited = 0.0 if self._clock is None else self._clock.waited()
        if steps and self._compiled:
            before = self._elapsed
            self._elapsed = Elapsed(
                before.steps + steps,
                before.seconds + now - self._last_begin,
                before.waited + waited - self._waited_before,
            )
        self._compiled = self._compiled or bool(steps)
        self._waited_before, self._last_begin, self._counted = waited, now, self._steps

    def _rates(self, before: Elapsed) -> dict[str, float]:
        elapsed = self._elapsed.since(before)
        return elapsed.rates(self._clips_per_step, measured=self._clock is not None)

    def _tell(self):
        step = round(self._count() / self._clips_per_step)
        told = {**self._metrics(), **self._rates(self._at_line), **_optimizer_state(self.model)}
        line = (
            f"epoch {self._epoch + 1}/{self._epochs}, step {step}/{self._steps_per_epoch}: "
            f"{in_words(told)}"
        )
        if self._show is None:
            logging.info(f"training    {line}")
        else:
            self._show(line)
        self._last_line, self._at_line = time.monotonic(), self._elapsed

    def _summarise(self):
        """Writes the curves' next point: means over the steps since the last one."""
        counted, before = self._means
        count, means = self._count(), self._metrics()
        self._means, self._at_summary_steps = (count, means), self._steps
        if self._summaries is None:
            return
        # Keras' metrics are means over the epoch so far.
        values = {
            name: (mean * count - before.get(name, 0.0) * counted) / (count - counted)
            for name, mean in means.items()
        }
        values |= self._rates(self._at_summary) | _optimizer_state(self.model)
        self._summaries.scalars(steps_done(self.model), values)
        self._at_summary = self._elapsed

    def _count(self) -> float:
        """Clips of the epoch so far, those before a resume within it among them."""
        loss = next(metric for metric in self.model.metrics if metric.name == "loss")
        return float(keras.ops.convert_to_numpy(loss.count))

    def _metrics(self) -> dict[str, float]:
        results = self.model.get_metrics_result()
        return {name: float(value) for name, value in results.items() if name != "gradient_norm"}


class EpochReport(keras.callbacks.Callback):
    """Tells of each epoch in one line and writes its scores for TensorBoard.

    To come after what validates.

    Args:
        epochs: epochs in all.
        summaries: where scores go; `None` writes none.
        histograms: whether histograms of the weights go there too.
    """

    def __init__(self, *, epochs: int, summaries: Summaries | None = None, histograms=False):
        super().__init__()
        self._epochs = epochs
        self._summaries = summaries
        self._histograms = histograms

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        seconds = time.monotonic() - self._begun
        # The norm that the optimizer keeps is of no step yet where training resumes at this end.
        told = {**_optimizer_state(self.model), **logs}
        logging.info(f"epoch       {epoch + 1}/{self._epochs}: {in_words(told)}, {seconds:,.1f} s")
        if self._summaries is None:
            return
        step = steps_done(self.model)
        rates = ("clips_per_second", "waiting_share", "learning_rate", "gradient_norm")
        scores = {name: value for name, value in logs.items() if name not in rates}
        training = {f"epoch_{n}": v for n, v in scores.items() if not n.startswith("val_")}
        validation = {
            f"epoch_{n.removeprefix('val_')}": v for n, v in scores.items() if n.startswith("val_")
        }
        self._summaries.scalars(step, training)
        self._summaries.scalars(step, validation, validation=True)
        if self._histograms:
            self._summaries.histograms(step, self.model)
        self._summaries.flush()


@contextlib.contextmanager
def live_line():
    """Shows a text on a terminal that the next one takes the place of.

    Yields:
        A function of a text; `None` where standard output is no terminal.
    """
    if not sys.stdout.isatty():
        yield None
        return

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(file=sys.stdout), auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)


def in_words(values: Mapping[str, float]) -> str:
    """Numbers of a training with their names, those of validation after those of training."""
    parts = [_FORMATS[name](values[name]) for name in _FORMATS if name in values]
    return ", ".join(parts)


def steps_done(model: keras.Model) -> int:
    """The training steps that a compiled model has behind it."""
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def _percent(what):
    return lambda value: f"{what} {value:.1%}"


def _number(what, digits=3):
    return lambda value: f"{what} {value:.{digits}f}"


_FORMATS = {
    "loss": _number("loss"),
    "accuracy": _percent("accuracy"),
    "val_loss": _number("validation loss"),
    "val_accuracy": _percent("validation accuracy"),
    "val_mean_average_precision": _percent("validation mAP"),
    "clips_per_second": lambda value: f"{value:.3g} clips/s",
    "waiting_share": lambda value: f"{value:.0%} of the time waiting for input",
    "learning_rate": lambda value: f"learning rate {value:.2e}",
    "gradient_norm": lambda value: f"gradient norm {value:.3g}",
}


def _optimizer_state(model) -> dict[str, float]:
    """Learning rate, and the norm of the last gradient where the optimizer keeps it."""
    optimizer = model.optimizer
    state = {"learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate))}
    norm = getattr(optimizer, "gradient_norm", None)
    if norm is not None and math.isfinite(norm := float(keras.ops.convert_to_numpy(norm))):
        state["gradient_norm"] = norm
    return state
