"""Opening and running the models of other runtimes, whose packages are imported here alone.

Each `open_...` gives a function from clips of the model's input shape to `Answer`.
"""

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mvit_tf.data.video.decode_workers import available_processors
from mvit_tf.errors import UserError
from mvit_tf.export.formats.artefact import Artefact
from mvit_tf.export.formats.names import MODEL_FILES

# The packages, by extra of setup.cfg, which opening a model needs, and what writing one adds.
_TO_RUN = {"litert": ("ai_edge_litert",), "onnx": ("onnxruntime",), "openvino": ("openvino",)}
_TO_WRITE = {"onnx": ("onnx", "tf2onnx")}


class Answer(NamedTuple):
    """Logits and probabilities of clips, float32 (B, K) each."""

    logits: np.ndarray
    probabilities: np.ndarray


Runner = Callable[[np.ndarray], Answer]


def require_runtime(format: str, *, to_write: bool = False):
    """Refuses a format whose packages are not installed.

    Args:
        format: a key of `MODEL_FILES`.
        to_write: whether the packages that write it are needed too.

    Raises:
        UserError: they are missing.
    """
    packages = _TO_RUN[format] + (_TO_WRITE.get(format, ()) if to_write else ())
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{format} needs an extra, {', '.join(missing)} not being installed: "
            f"pip install 'mvit_tf[{format}]'"
        )


def open_runtime(
    folder: str | os.PathLike, artefact: Artefact, threads: int | None = None
) -> Runner:
    """A function that runs the model of a folder.

    Args:
        folder: of the artefact.
        artefact: what it holds.
        threads: of a call; by default one for each processor that this process may use.

    Raises:
        UserError: the runtime is not installed, or refuses the file.
    """
    require_runtime(artefact.format)
    path = Path(folder, MODEL_FILES[artefact.format])
    opener = {"litert": _open_litert, "onnx": _open_onnx, "openvino": _open_openvino}
    try:
        return opener[artefact.format](path, artefact, threads or available_processors())
    # The runtimes raise RuntimeError and ValueError, ONNX Runtime classes of its own.
    except Exception as error:
        if isinstance(error, UserError | MemoryError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be opened by {artefact.format}: {reason}") from error


def _open_litert(path, artefact, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(os.fspath(path), num_threads=threads)
    interpreter.allocate_tensors()
    (frames,) = interpreter.get_input_details()
    outputs = {tensor["name"]: tensor["index"] for tensor in interpreter.get_output_details()}

    def run(clips):
        interpreter.set_tensor(frames["index"], clips)
        interpreter.invoke()
        return Answer(*(interpreter.get_tensor(outputs[name]) for name in Answer._fields))

    return run


def _open_onnx(path, artefact, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    return lambda clips: Answer(*session.run(list(Answer._fields), {"frames": clips}))


def _open_openvino(path, artefact, threads):
    # By itself it would round to bfloat16 on machines that have it.
    precision = {"bfloat16": "bf16"}.get(artefact.dtype, "f32")
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    model = _openvino_core().compile_model(os.fspath(path), "CPU", options)

    def run(clips):
        answer = model({"frames": clips})
        return Answer(*(np.array(answer[name]) for name in Answer._fields))

    return run


@functools.cache
def _openvino_core():
    # One for all, never freed: a core gives the thread another stack for signals and puts the one
    # before it back when it goes. Of two that go in the order they came, the second puts back the
    # first one's, which is freed by then: the next signal, such as Ctrl-C, crashes the process.
    import openvino

    return openvino.Core()
