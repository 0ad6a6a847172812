"""What a model said to every view of every video, kept to be scored in other ways.

`evaluation_views.npz` holds the arrays below; `numpy.load` opens it.

probabilities   float32 (V, K), a row a view
video           (V,), number of its video
clip, crop      (V,), which of the video's clips, and which crop of that clip, counted from 0
names           (N,), what each video is called: its path, and the segment if it is one
files           (N,), its file
labels          (N,), the index of its class; of a multi-label set bool (N, K)
class_names     (K,)
about           JSON: model, epoch, data, clips, crops, why videos are missing or partial
"""

import dataclasses
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.errors import UserError
from mvit_tf.files import local_copy, write_atomically
from mvit_tf.remote_path import RemotePath, as_path
from mvit_tf.training.evaluation.evaluation import EvaluationReport, make_report
from mvit_tf.training.evaluation.multi_label_report import MultiLabelReport, make_multi_label_report
from mvit_tf.urls import without_secrets

_ARRAYS = ("probabilities", "video", "clip", "crop", "names", "files", "labels", "class_names")


class ViewCollector:
    """Takes the probabilities of views, video after video, and numbers the views of each.

    Args:
        num_crops: crops of each clip, which follow one another.
        num_classes: K.
    """

    def __init__(self, num_crops: int, num_classes: int):
        self._num_crops = num_crops
        self._video = [np.zeros(0, int)]
        self._probabilities = [np.zeros((0, num_classes), np.float32)]

    def __call__(self, video_index: np.ndarray, probabilities: np.ndarray):
        """Takes views: indices of their videos (b,), and probabilities (b, K)."""
        self._video.append(video_index)
        self._probabilities.append(probabilities.astype(np.float32))

    def arrays(self) -> dict[str, np.ndarray]:
        """`probabilities`, `video`, `clip` and `crop`, ordered by video."""
        video = np.concatenate(self._video)
        order = np.argsort(video, kind="stable")
        video = video[order]
        number = np.arange(len(video)) - np.searchsorted(video, video)
        clip, crop = np.divmod(number, self._num_crops)
        probabilities = np.concatenate(self._probabilities)[order]
        return {"probabilities": probabilities, "video": video, "clip": clip, "crop": crop}


@dataclasses.dataclass(frozen=True)
class SavedViews:
    """The views of an evaluation; the attributes are the arrays of the file, and `about`.

    Example:

        views = SavedViews.load("runs/mine/evaluation_views.npz")
        for clips in (1, 2, 5):
            print(clips, views.report(clips=clips).top1_of_decoded)
    """

    probabilities: np.ndarray
    video: np.ndarray
    clip: np.ndarray
    crop: np.ndarray
    names: np.ndarray
    files: np.ndarray
    labels: np.ndarray
    class_names: np.ndarray
    about: dict

    @classmethod
    def of_evaluation(
        cls,
        collected: Mapping[str, np.ndarray],
        videos: VideoList,
        *,
        failures: Mapping[str, tuple[str, str]],
        partial: Mapping[str, tuple[float, str]],
        **about,
    ) -> "SavedViews":
        """The views of a model on videos.

        Args:
            collected: `ViewCollector.arrays()`.
            videos: what was evaluated on.
            failures, partial: of the ledger, see `make_report`.
            **about: plain data that says what was evaluated and how: `model`, `epoch`, `data`,
                `clips`, `crops` and `ensemble_method`.
        """
        labels = videos.label_matrix() if videos.multi_label else np.array(videos.labels)
        return cls(
            **collected,
            names=np.array([without_secrets(videos.name(i)) for i in range(len(videos))]),
            files=np.array([without_secrets(path) for path in videos.paths]),
            labels=labels,
            class_names=np.array(videos.class_names),
            about={
                **about,
                "failures": {without_secrets(name): list(v) for name, v in failures.items()},
                "partial": {without_secrets(name): list(v) for name, v in partial.items()},
            },
        )

    def save(self, path: str | os.PathLike):
        """Writes a NumPy archive that holds no pickled objects."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays["about"] = np.array(without_secrets(json.dumps(self.about)))

        def fill(temporary):
            with open(temporary, "wb") as file:
                np.savez_compressed(file, **arrays)

        write_atomically(as_path(path), fill)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SavedViews":
        """Reads what `save` wrote.

        Raises:
            UserError: there is no such file, or it is another one.
        """
        path = as_path(path)
        if not path.is_file():
            raise UserError(
                f"there is no {path}; `mvit evaluate` writes it into the model directory, unless "
                "data.save_views=false"
            )
        try:
            with local_copy(path) as local, np.load(local) as file:
                arrays = {name: file[name] for name in _ARRAYS}
                return cls(**arrays, about=json.loads(str(file["about"])))
        except (
            *(ValueError, KeyError, OSError, EOFError),
            *(zipfile.BadZipFile, zlib.error),  # cut off, or with other bits
        ) as error:
            raise UserError(f"{path} holds no views of an evaluation ({error})") from error

    @property
    def multi_label(self) -> bool:
        """Whether the videos have any number of labels."""
        return self.labels.ndim == 2

    def chosen(self, clips: int | None = None, crops: int | None = None) -> np.ndarray:
        """Which views make a grouping, bool (V,).

        Args:
            clips: so many of the clips, evenly spread; of one, the middle one. `None`: all.
            crops: 1 takes the centre one of three; `None` takes what there is.

        Raises:
            UserError: there are not so many.
        """
        of_clips, of_crops = self.about["clips"], self.about["crops"]
        clips, crops = clips or of_clips, crops or of_crops
        if clips > of_clips:
            raise UserError(f"clips={clips}: the evaluation had {of_clips} of each video")
        if crops not in (1, of_crops):
            raise UserError(f"crops={crops}: must be 1 or {of_crops}, the evaluation's number")
        spread = np.linspace(0, of_clips - 1, clips) if clips > 1 else [(of_clips - 1) // 2]
        taken = np.isin(self.clip, np.floor(np.asarray(spread) + 0.5))
        return taken if crops == of_crops else taken & (self.crop == of_crops // 2)

    def report(
        self,
        *,
        clips: int | None = None,
        crops: int | None = None,
        ensemble_method: str | None = None,
        by_file: bool = False,
    ) -> EvaluationReport | MultiLabelReport:
        """Scores a grouping of the views.

        Args:
            clips, crops: see `chosen`.
            ensemble_method: "mean" or "max" of a video's views; `None`: as the evaluation.
            by_file: put together the views of all segments of a file.

        Raises:
            UserError: such views there are not, or segments of a file are of several classes.
        """
        videos, number_of = self._videos(by_file)
        taken = self.chosen(clips, crops)
        video, probabilities = number_of[self.video[taken]], self.probabilities[taken]
        scores = np.zeros((len(videos), len(self.class_names)))
        num_views = np.bincount(video, minlength=len(videos))
        if (ensemble_method or self.about["ensemble_method"]) == "max":
            np.maximum.at(scores, video, probabilities)
        else:
            np.add.at(scores, video, probabilities)
            scores /= np.maximum(num_views, 1)[:, None]
        make = make_multi_label_report if self.multi_label else make_report
        failures, partial = (
            {name: tuple(entry) for name, entry in self.about[kind].items()}
            for kind in ("failures", "partial")
        )
        return make(scores, num_views, videos, failures, partial)

    def _videos(self, by_file):
        """(VideoList, number in it of each video)"""
        called, number_of = self.names, np.arange(len(self.names))
        labels = list(self.labels)
        if by_file:
            called, first, number_of = np.unique(self.files, return_index=True, return_inverse=True)
            labels = [self._common_label(index == number_of) for index in range(len(called))]
        if self.multi_label:
            labels = [tuple(np.flatnonzero(row).tolist()) for row in labels]
        names = tuple(map(str, self.class_names))
        return VideoList(tuple(map(str, called)), tuple(labels), names), number_of

    def _common_label(self, segments):
        labels = self.labels[segments]
        if self.multi_label:
            return labels.any(axis=0)
        if (labels != labels[0]).any():
            file = self.files[segments][0]
            raise UserError(
                f"by_file: the segments of {file} are of several classes, so they have no score "
                "in common"
            )
        return labels[0]


def views_file(path: str | os.PathLike) -> Path | RemotePath:
    """The file of saved views: `path`, or that of the model directory which `path` is."""
    path = as_path(path)
    return path / "evaluation_views.npz" if path.is_dir() else path
