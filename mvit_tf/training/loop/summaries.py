"""Curves, pictures and histograms of a training for TensorBoard.

Written by TensorBoard's own file writer: nothing of it runs in TensorFlow. Every point stands at
the number of training steps done. A training that goes on first says from which step on: what an
earlier one wrote beyond it, and never saved, TensorBoard then passes over.
"""

import contextlib
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from mvit_tf.data.transforms import denormalise
from mvit_tf.remote_path import RemotePath
from mvit_tf.training.experiments.clips import seen_clips, with_time
from mvit_tf.training.experiments.experiment import Experiment

# Milliseconds that a GIF shows each frame.
_FRAME_MILLISECONDS = 150


class Summaries:
    """Writes the runs `train` and `validation` into a folder.

    Args:
        folder: of the runs.
        first_step: steps done when training begins or goes on; an attribute too.
    """

    def __init__(self, folder: Path | RemotePath, first_step: int = 0):
        self._folder = folder
        self.first_step = first_step
        self._writers = {}

    def scalars(self, step: int, values: Mapping[str, float], *, validation: bool = False):
        """Writes a point of several curves."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if values:
            values = [Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
            self._add("validation" if validation else "train", step, Summary(value=values))

    def clips(self, step: int, clips: np.ndarray, labels: Sequence[str]):
        """Writes clips as moving pictures.

        Args:
            step: steps done.
            clips: uint8 (N, T, H, W, 3), RGB.
            labels: the N names of the pictures.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = clips.shape[2:4]
        values = []
        for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
            image = Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=as_gif(clip)
            )
            values.append(Summary.Value(tag=f"clips/{number:02d} {label}", image=image))
        self._add("train", step, Summary(value=values))

    def histograms(self, step: int, model: keras.Model):
        """Writes how the values of each trainable variable of a model are spread."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        for variable in model.trainable_variables:
            values = keras.ops.convert_to_numpy(variable.value)
            self._add("train", step, histogram_pb(f"weights/{variable.path}", values))

    def flush(self):
        """Writes out what is waiting."""
        for writer in self._writers.values():
            writer.flush()

    def restart(self, first_step: int):
        """Training goes on from an earlier step: what was written beyond it is passed over."""
        self.close()
        self._writers = {}
        self.first_step = first_step

    def close(self):
        """Ends the files."""
        for writer in self._writers.values():
            writer.close()

    def _add(self, run, step, summary):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if run not in self._writers:
            writer = EventFileWriter(os.fspath(self._folder / run), flush_secs=30)
            start = SessionLog(status=SessionLog.START)
            writer.add_event(
                Event(wall_time=time.time(), step=self.first_step + 1, session_log=start)
            )
            self._writers[run] = writer
        self._writers[run].add_event(Event(wall_time=time.time(), step=step, summary=summary))


@contextlib.contextmanager
def open_summaries(folder: Path | RemotePath, first_step: int = 0) -> Iterator[Summaries]:
    """`Summaries` that are closed, whatever ends the training."""
    with contextlib.closing(Summaries(folder, first_step)) as summaries:
        yield summaries


def write_sample_clips(
    summaries: Summaries,
    experiment: Experiment,
    batches: tf.data.Dataset,
    class_names: Sequence[str],
):
    """Writes the first `train.summary_clips` clips of a training, as the model sees them."""
    clips, labels = seen_clips(next(batches.take(1).as_numpy_iterator()))
    number = experiment.train.summary_clips
    pixels = denormalise(with_time(experiment, clips[:number]), experiment.preprocessing())
    names = [
        " + ".join(class_names[index] for index in np.flatnonzero(label)) or "no label"
        for label in labels[:number]
    ]
    summaries.clips(summaries.first_step, pixels, names)


def as_gif(clip: np.ndarray) -> bytes:
    """A moving picture, over and over, of a clip uint8 (T, H, W, 3)."""
    first, *others = [Image.fromarray(frame) for frame in clip]
    file = io.BytesIO()
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=_FRAME_MILLISECONDS,
        loop=0,
    )
    return file.getvalue()
