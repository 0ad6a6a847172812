"""What an export directory says to those who serve it: README.md and batching.config."""

import os
import re
import textwrap
from pathlib import Path

import tensorflow as tf

from mvit_tf.data.records.examples import FRAME_RATE, FRAMES
from mvit_tf.errors import UserError
from mvit_tf.export.metadata import ExportMetadata
from mvit_tf.export.requests import MAX_REQUEST_BYTES, MAX_SIDE, MIN_SIDE
from mvit_tf.export.signatures import EXAMPLES, SIGNATURE, VIDEO_EXAMPLES, Signature
from mvit_tf.files import one_line, write_text_atomically
from mvit_tf.remote_path import RemotePath, as_path

README_FILE, BATCHING_FILE = "README.md", "batching.config"
# A batch of clips as the model sees them, float32; what it computes takes many times that.
_BATCH_BYTES = 2**27
_LARGEST_BATCH = 64
_CLASSES_SHOWN = 20
# What a URL of the REST interface takes as it is.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_model_name(name: str | None, directory: str | os.PathLike) -> str:
    """The name under which TensorFlow Serving is to serve a model.

    Args:
        name: as asked for; `None` takes that of the export directory, or of the folder around it
            where that is called "export", as in a model directory.
        directory: the export directory.

    Raises:
        UserError: a name that does not stand in a URL.
    """
    if name is None:
        directory = as_path(directory)
        if isinstance(directory, Path):
            directory = directory.absolute()
        name = (directory.parent if directory.name == "export" else directory).name
        return re.sub(r"^[^A-Za-z0-9]+", "", re.sub(r"[^A-Za-z0-9_.-]", "_", name)) or "mvit"
    if not _MODEL_NAME.fullmatch(name):
        raise UserError(
            f"--model_name={name!r}: letters, digits, '_', '-' and '.' only, and the first one a "
            "letter or a digit, as it stands in URLs"
        )
    return name


def batch_sizes(metadata: ExportMetadata) -> list[int]:
    """The sizes of batches that a server makes of requests: powers of two."""
    height, width = metadata.preprocessing.size
    clip = metadata.sampling.num_frames * height * width * 3 * 4
    clip *= metadata.num_crops if metadata.views_in_graph else 1
    sizes = [1]
    while sizes[-1] < _LARGEST_BATCH and 2 * sizes[-1] * clip <= _BATCH_BYTES:
        sizes.append(2 * sizes[-1])
    return sizes


def write_serving_files(
    directory: Path | RemotePath,
    version: int,
    signatures: dict[str, Signature],
    metadata: ExportMetadata,
    *,
    model_name: str,
    file_sizes: dict[str, int],
):
    """Writes both files into an export directory, for its newest version.

    Args:
        directory: the export directory.
        version: number of the version.
        signatures: by name, traced.
        metadata: of the model.
        model_name: under which it is served.
        file_sizes: bytes of the version's files.
    """
    sizes = batch_sizes(metadata)
    write_text_atomically(directory / BATCHING_FILE, _batching_config(sizes))
    parts = [
        _head(version, metadata, model_name),
        "" if metadata.image else _sampling_in_words(metadata),
        _signature_table(signatures),
        _files_table(version, file_sizes),
        _SERVER.format(
            name=model_name,
            largest=sizes[-1],
            pixels="images" if metadata.image else "frames",
            examples=EXAMPLES,
        ),
        _rest(signatures, metadata, model_name),
        _grpc(metadata, model_name),
    ]
    write_text_atomically(directory / README_FILE, "\n".join(part for part in parts if part))


def _batching_config(sizes):
    lines = [
        "# Of --batching_parameters_file, with --enable_batching: requests that come together are",
        "# computed together. Few threads, as one batch uses every core or the whole GPU, and a",
        "# short queue: a request that would wait for long is refused, and its client tries again.",
        f"max_batch_size {{ value: {sizes[-1]} }}",
        "batch_timeout_micros { value: 10000 }",
        "max_enqueued_batches { value: 16 }",
        "num_batch_threads { value: 2 }",
        *(f"allowed_batch_sizes: {size}" for size in sizes),
    ]
    return "\n".join(lines) + "\n"


def _head(version, metadata, model_name):
    names = [one_line(name) for name in metadata.class_names]
    shown = ", ".join(f"`{name}`" for name in names[:_CLASSES_SHOWN])
    more = f" and {len(names) - _CLASSES_SHOWN} more" if len(names) > _CLASSES_SHOWN else ""
    height, width = metadata.preprocessing.size
    what = f"images of {height} x {width} pixels"
    if not metadata.image:
        what = f"clips of {metadata.sampling.num_frames} frames of {height} x {width} pixels"
    kind = "a probability of its own each" if metadata.multi_label else "probabilities add up to 1"
    text = (
        f"`{metadata.model_name}`, a model of {what}, as a SavedModel. This page is of version "
        f"{version}, written with TensorFlow {tf.__version__}; every version is a folder of that "
        f"number. It classifies into {len(names)} classes ({kind}): {shown}{more}. All of them are "
        "in `assets/labels.txt` of each version, in the order of the columns."
    )
    return f"# {model_name}\n\n{_paragraph(text)}"


def _sampling_in_words(metadata):
    sampling = metadata.sampling
    if sampling.rule == "segments":
        rule = f"the middle frame of each of {sampling.num_frames} equal parts of the video"
    else:
        seconds = sampling.num_frames * sampling.sampling_rate / sampling.target_fps
        rule = f"{sampling.num_frames} frames evenly over {seconds:.2f} s"
    combined = {"mean": "mean", "max": "maximum"}[metadata.ensemble_method]
    views = f"{metadata.num_clips} of them evenly along a video; the {combined} counts"
    if metadata.num_clips == 1:
        views = "one of a video"
    return _paragraph(
        f"A clip is {rule}; evaluation took {views}. A request may hold any number of frames of "
        "any size: they are taken evenly from the first to the last, resized and cropped in the "
        "graph. All of it is in `assets/metadata.json` of each version."
    )


def _paragraph(text):
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False) + "\n"


def _signature_table(signatures):
    lines = [
        "## Signatures",
        "",
        f"B and T are at least 1, H and W {MIN_SIDE} to {MAX_SIDE}; a request holds "
        f"{MAX_REQUEST_BYTES / 2**30:g} GiB of frames at most.",
        "",
        "| signature | | name | type | shape |",
        "|---|---|---|---|---|",
    ]
    for name, signature in signatures.items():
        rows = [("input", spec.name, spec) for spec in signature.inputs]
        rows += [("output", key, spec) for key, spec in sorted(signature.outputs.items())]
        for number, (kind, key, spec) in enumerate(rows):
            first = "" if number else f"`{name}`"
            lines.append(f"| {first} | {kind} | `{key}` | {spec.dtype.name} | {_shape(spec)} |")
    lines.append("")
    lines += [f"- `{name}`: {one.summary}." for name, one in signatures.items()]
    return "\n".join(lines) + "\n"


def _shape(spec):
    axes = {5: "BTHW", 4: "BHW"}.get(spec.shape.rank, "B")
    sizes = [axes[n] if n < len(axes) else str(size) for n, size in enumerate(spec.shape)]
    return f"[{', '.join(sizes)}]"


def _files_table(version, sizes):
    rows = [f"| `{version}/{name}` | {size:,} |" for name, size in sizes.items()]
    return "\n".join(["## Files", "", "| file | bytes |", "|---|---|", *rows]) + "\n"


def _rest(signatures, metadata, model_name):
    signature = EXAMPLES
    if metadata.image:
        example = _IMAGE_EXAMPLE.format(frames=FRAMES)
    elif VIDEO_EXAMPLES in signatures:
        signature = VIDEO_EXAMPLES
        rate = _RATE.format(key=FRAME_RATE, fps=metadata.sampling.target_fps)
        example = _CLIP_EXAMPLE.format(frames=FRAMES, rate=rate)
    else:
        example = _CLIP_EXAMPLE.format(frames=FRAMES, rate="")
    return _REST.format(name=model_name, signature=signature, example=example)


def _grpc(metadata, model_name):
    name, shape, axes = "images", "1, 240, 320, 3", "B, H, W, 3"
    if not metadata.image:
        name, axes = "frames", "B, T, H, W, 3"
        shape = f"1, {metadata.sampling.num_frames}, 240, 320, 3"
    return _GRPC.format(name=model_name, signature=SIGNATURE, input=name, shape=shape, axes=axes)


_SERVER = """\
## TensorFlow Serving

In this folder:

```sh
docker run --rm -p 8500:8500 -p 8501:8501 \\
  --mount type=bind,source="$PWD",target=/models/{name},readonly \\
  -e MODEL_NAME={name} tensorflow/serving \\
  --enable_batching --batching_parameters_file=/models/{name}/batching.config
```

or, with the server installed,

```sh
tensorflow_model_server --port=8500 --rest_api_port=8501 \\
  --model_name={name} --model_base_path="$PWD" \\
  --enable_batching --batching_parameters_file="$PWD/batching.config"
```

- The server takes the highest version, and a new one as soon as it is complete.
- While a version loads, its warm-up requests are computed; only then is it served.
- With batching, up to {largest} are computed together. Requests that are batched must have
  `{pixels}` of one size (`{examples}` takes any), and one bad request fails those that it was
  batched with. Without the two batching flags requests are independent.
- The server asks nobody for a password: let only your own network reach it.
"""

_CLIP_EXAMPLE = """\
example = tf.train.SequenceExample()
{rate}for path in sorted(glob.glob("frames/*.jpg")):
    feature = example.feature_lists.feature_list["{frames}"].feature.add()
    feature.bytes_list.value.append(open(path, "rb").read())"""

_RATE = """\
example.context.feature["{key}"].float_list.value.append({fps:g})  # frames a second
"""

_IMAGE_EXAMPLE = """\
example = tf.train.Example()
feature = example.features.feature["{frames}"]
feature.bytes_list.value.append(open("image.jpg", "rb").read())"""

_REST = """\
## A request by REST

```python
import base64, glob, json
import tensorflow as tf

{example}
text = base64.b64encode(example.SerializeToString()).decode()
request = {{"signature_name": "{signature}", "instances": [{{"b64": text}}]}}
json.dump(request, open("request.json", "w"))
```

```sh
curl -d @request.json http://localhost:8501/v1/models/{name}:predict
```
"""

_GRPC = """\
## A request by gRPC

With `pip install tensorflow-serving-api`:

```python
import grpc, numpy as np, tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

{input} = np.zeros(({shape}), np.uint8)  # [{axes}], yours instead
request = predict_pb2.PredictRequest()
request.model_spec.name = "{name}"
request.model_spec.signature_name = "{signature}"
request.inputs["{input}"].CopyFrom(tf.make_tensor_proto({input}))
large = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
with grpc.insecure_channel("localhost:8500", options=large) as channel:
    service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    answer = service.Predict(request, timeout=60)
for name in ("classes", "probabilities"):
    print(tf.make_ndarray(answer.outputs[name]))
```
"""
