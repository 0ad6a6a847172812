"""The folder that holds a model for another runtime.

    <folder>/model.tflite, or model.onnx, or model.xml and model.bin
    <folder>/metadata.json   what predicting needs to know, and the inputs and outputs
    <folder>/labels.txt      the class names, one a line, in the order of the outputs

All formats take the model's own clip, what `evaluation_preprocess` makes of decoded frames: these
runtimes have neither its resize nor pictures of any size.
"""

import dataclasses
import json
import os
from pathlib import Path

from mvit_tf.errors import UserError
from mvit_tf.export.formats.names import DTYPES, MODEL_FILES
from mvit_tf.export.metadata import METADATA_FILE, ExportMetadata, metadata_values
from mvit_tf.files import one_line
from mvit_tf.remote_path import RemotePath

LABELS_FILE = "labels.txt"


@dataclasses.dataclass(frozen=True)
class Artefact:
    """What a folder holds.

    Attributes:
        format: "litert", "onnx" or "openvino".
        dtype: of the weights, or of the computation; one of `DTYPES[format]`.
        batch_size: clips of a call.
        metadata: what the model says of its frames and classes.
    """

    format: str
    dtype: str
    batch_size: int
    metadata: ExportMetadata

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(B, T, H, W, 3), or (B, H, W, 3) of an image model."""
        clip = (*self.metadata.preprocessing.size, 3)
        if not self.metadata.image:
            clip = (self.metadata.sampling.num_frames, *clip)
        return (self.batch_size, *clip)

    def write(self, folder: Path):
        """Writes `metadata.json` and `labels.txt` beside the model's file."""
        order = self.metadata.preprocessing.channel_order
        outputs = {"dtype": "float32", "shape": [self.batch_size, len(self.metadata.class_names)]}
        values = {
            **self.metadata.to_dict(),
            "runtime": {
                "format": self.format,
                "dtype": self.dtype,
                "batch_size": self.batch_size,
                "inputs": {
                    "frames": {
                        "dtype": "float32",
                        "shape": list(self.input_shape),
                        "values": f"(pixel / 255 - mean) / std, {order}, after resize and crop",
                    }
                },
                "outputs": {"logits": outputs, "probabilities": outputs},
            },
        }
        text = json.dumps(values, indent=2) + "\n"
        (folder / METADATA_FILE).write_text(text, encoding="utf-8")
        names = "".join(f"{one_line(name)}\n" for name in self.metadata.class_names)
        (folder / LABELS_FILE).write_text(names, encoding="utf-8")


def find_artefact(path: Path | RemotePath) -> Path | RemotePath | None:
    """The folder of an artefact, given it or the model's file in it; None if there is none."""
    if path.name in MODEL_FILES.values():
        return path.parent if path.is_file() else None
    if any((path / name).is_file() for name in MODEL_FILES.values()):
        return path
    return None


def load_artefact(folder: str | os.PathLike) -> Artefact:
    """Reads what `Artefact.write` wrote.

    Raises:
        UserError: the file is missing, broken, or of a later format.
    """
    path = Path(folder, METADATA_FILE)
    with metadata_values(path, folder) as values:
        runtime = values["runtime"]
        artefact = Artefact(
            format=runtime["format"],
            dtype=runtime["dtype"],
            batch_size=int(runtime["batch_size"]),
            metadata=ExportMetadata.from_dict(values),
        )
    if artefact.dtype not in DTYPES.get(artefact.format, ()):
        raise UserError(
            f"{path} names the unknown runtime {artefact.format!r} in {artefact.dtype!r}: "
            "update mvit_tf, or export the model again"
        )
    return artefact
