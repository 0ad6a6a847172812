"""What an export says about itself, in a JSON file that needs no TensorFlow to read."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvit_tf.data.preprocessing import Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.errors import UserError
from mvit_tf.remote_path import RemotePath, as_path

METADATA_FILE, LABELS_FILE = "metadata.json", "labels.txt"
GRAPH_FILE = "saved_model.pb"
FORMAT = 1
_NUM_CLIPS = 5  # as most published video models were measured


@dataclass(frozen=True)
class ExportMetadata:
    """All that predicting on a video file needs beside the SavedModel's graph.

    Attributes:
        model_name: name of the Keras model.
        class_names: class names in the order of the probabilities.
        preprocessing: what the graph does to the frames; here for the record.
        sampling: which frames of a video make a clip.
        num_clips: clips of a video whose probabilities are put together.
        multi_label: whether each class has a probability of its own (sigmoid), or all together add
            up to 1 (softmax).
        ensemble_method: what the probabilities of the clips become: "mean", or "max" of each class.
        image: whether the model takes images, each a clip of one frame without the axis of time.
        views_in_graph: whether the graph also takes whole videos and makes the clips itself.
        num_crops: crops of each clip of those, 1 (the centre) or 3.
    """

    model_name: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    sampling: ClipSampling
    num_clips: int
    multi_label: bool = False
    ensemble_method: str = "mean"
    image: bool = False
    views_in_graph: bool = False
    num_crops: int = 1

    def check_fit(self, model):
        """Refuses a model that takes other clips or has other classes.

        Raises:
            UserError: it does.
        """
        wanted = (self.sampling.num_frames, *self.preprocessing.size, 3)
        if self.image:
            wanted = wanted[1:]
        if tuple(model.input_shape[1:]) != wanted:
            what = "images" if self.image else "clips"
            raise UserError(
                f"{model.name} takes {what} of shape {model.input_shape[1:]}, but sampling and "
                f"preprocessing make {wanted}"
            )
        if model.output_shape[-1] != len(self.class_names):
            raise UserError(
                f"{model.name} has {model.output_shape[-1]} outputs, but there are "
                f"{len(self.class_names)} class names"
            )
        if self.num_crops not in (1, 3):
            raise UserError(f"num_crops must be 1 or 3, not {self.num_crops}")
        if self.views_in_graph:
            if self.image:
                raise UserError(f"{model.name} takes images: several views are of videos")
            # Refuses a number of clips that the rule has not.
            self.sampling.evaluation_indices(1, 1.0, self.num_clips)

    def to_dict(self) -> dict:
        return {
            "format": FORMAT,
            "model_name": self.model_name,
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.to_dict(),
            "sampling": self.sampling.to_dict(),
            "num_clips": self.num_clips,
            "multi_label": self.multi_label,
            "ensemble_method": self.ensemble_method,
            "image": self.image,
            "views_in_graph": self.views_in_graph,
            "num_crops": self.num_crops,
        }

    @classmethod
    def from_dict(cls, values: dict) -> "ExportMetadata":
        return cls(
            model_name=values["model_name"],
            class_names=tuple(values["class_names"]),
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            sampling=ClipSampling.from_dict(values["sampling"]),
            num_clips=values["num_clips"],
            # Exports of version 0.2 do not say.
            multi_label=values.get("multi_label", False),
            ensemble_method=values.get("ensemble_method", "mean"),
            image=values.get("image", False),
            views_in_graph=values.get("views_in_graph", False),
            num_crops=values.get("num_crops", 1),
        )


def model_metadata(
    model,
    num_clips: int | None = None,
    ensemble_method: str = "mean",
    *,
    views_in_graph: bool = False,
    num_crops: int = 1,
) -> ExportMetadata:
    """What a model says of its own frames and classes.

    Args:
        model: an `MViT`.
        num_clips: clips of a video; by default five, one for the sampling rule "segments" and
            for an image model, which has no other.
        ensemble_method, views_in_graph, num_crops: see `ExportMetadata`.

    Raises:
        UserError: it does not know them, or what it says does not fit it.
    """
    image = len(model.input_shape) == 4
    names = (
        ("preprocessing", "class_names") if image else ("preprocessing", "sampling", "class_names")
    )
    missing = [f"model.{name}" for name in names if getattr(model, name, None) is None]
    if missing:
        raise UserError(
            f"{model.name} does not know what its weights were trained on: set "
            f"{', '.join(missing)} in Python and save it as a .keras file, which keeps them. "
            "Published weights of all classes bring them (create_model(..., weights=SET))"
        )
    sampling = model.sampling
    if image:
        sampling, num_clips = ClipSampling(num_frames=1), 1
    if num_clips is None:
        num_clips = 1 if sampling.rule == "segments" else _NUM_CLIPS
    metadata = ExportMetadata(
        model_name=model.name,
        class_names=tuple(model.class_names),
        preprocessing=model.preprocessing,
        sampling=sampling,
        num_clips=num_clips,
        multi_label=getattr(model, "multi_label", False),
        ensemble_method=ensemble_method,
        image=image,
        views_in_graph=views_in_graph,
        num_crops=num_crops,
    )
    metadata.check_fit(model)
    return metadata


def load_metadata(version_directory: str | os.PathLike) -> ExportMetadata:
    """Reads `assets/metadata.json` of an exported version.

    Raises:
        UserError: the file is missing (a SavedModel of another making), broken, or of a later
            format.
    """
    path = as_path(version_directory) / "assets" / METADATA_FILE
    with metadata_values(path, version_directory) as values:
        return ExportMetadata.from_dict(values)


@contextlib.contextmanager
def metadata_values(
    path: Path | RemotePath, exported: str | os.PathLike
) -> Iterator[dict[str, Any]]:
    """Context with what a metadata file says, in which what it lacks is a `UserError`.

    Args:
        path: of the file.
        exported: what it is of, for the message.

    Raises:
        UserError: as `load_metadata`.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: {exported} was not exported by mvit_tf")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise UserError(
                f"{path} has format {values['format']}, this version of mvit_tf reads {FORMAT}: "
                "update mvit_tf, or export the model again"
            )
        yield values
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is broken ({error!r}): export the model again") from error


def list_versions(directory: str | os.PathLike) -> list[int]:
    """The version numbers in an export directory, ascending; other names are passed over."""
    directory = as_path(directory)
    if not directory.is_dir():  # An object store has a folder once something is in it.
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal())


def find_version(path: str | os.PathLike) -> Path | RemotePath:
    """The directory of a SavedModel: the path itself, or the highest version below it.

    Raises:
        UserError: there is no SavedModel in either place.
    """
    path = as_path(path)
    if not path.is_dir():
        wrong = "a file" if path.exists() else "no such folder"
        raise UserError(
            f"no model at {path}: {wrong}; give an export, a model directory or a .keras file"
        )
    if (path / GRAPH_FILE).is_file():
        return path
    versions = list_versions(path)
    if isinstance(path, RemotePath):  # One that is not wholly copied yet lacks its graph.
        versions = [n for n in versions if (path / str(n) / GRAPH_FILE).is_file()]
    if not versions:
        cure = f"; did you mean {path / 'export'}?" if (path / "export").is_dir() else ""
        raise UserError(
            f"no export at {path}: neither saved_model.pb nor a numbered version in it{cure}"
        )
    return path / str(versions[-1])
