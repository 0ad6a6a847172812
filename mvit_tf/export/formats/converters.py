"""From the plain graph of a model to the file of another runtime."""

import contextlib
import logging
import os
import tempfile
from pathlib import Path

import tensorflow as tf

from mvit_tf.export.formats.inference_graph import (
    INPUT,
    OUTPUTS,
    concrete_function,
    erf_for_erfc,
)
from mvit_tf.export.formats.names import MODEL_FILES

# Of the operators of ONNX; all that a graph of this project becomes is in it.
_OPSET = 18


def write_model(graph, folder: Path, format: str, dtype: str):
    """Converts a graph.

    Args:
        graph: of `inference_graph`.
        folder: where the format's file is written.
        format: a key of `MODEL_FILES`.
        dtype: one that it holds.
    """
    write = {"litert": _write_litert, "onnx": _write_onnx, "openvino": _write_openvino}
    write[format](graph, folder / MODEL_FILES[format], dtype)


def _write_litert(graph, path, dtype):
    # From a SavedModel instead, the file's tensors would lose their names.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete_function(graph)])
    if dtype != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if dtype == "float16":
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())


def _write_onnx(graph, path, dtype):
    import onnx
    import tf2onnx

    with _quiet("tf2onnx"):
        model, _ = tf2onnx.convert.from_graph_def(
            erf_for_erfc(graph),
            input_names=[f"{INPUT}:0"],
            output_names=[f"{name}:0" for name in OUTPUTS],
            opset=_OPSET,
            tensors_to_rename={f"{name}:0": name for name in (INPUT, *OUTPUTS)},
        )
    if dtype == "float16":
        _store_in_float16(model.graph)
    onnx.checker.check_model(model)
    if dtype != "int8":
        onnx.save(model, path)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet(""):
        whole = Path(folder, path.name)
        onnx.save(model, whole)
        # Convolutions, a small part of the work, would lose accuracy and speed.
        quantize_dynamic(
            whole,
            path,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=_products_of_other_ranks(model.graph),
        )


def _products_of_other_ranks(graph):
    """Names of an ONNX graph's products with constants that are no matrices.

    Of these, the relative positions', ONNX Runtime takes no scale for each column.
    """
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    products = (node for node in graph.node if node.op_type == "MatMul")
    return [node.name for node in products if ranks.get(node.input[1], 2) != 2]


def _store_in_float16(graph):
    """Float32 weights of an ONNX graph as float16 ones and a cast, which is done at loading."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2:
            continue
        name = tensor.name
        narrow = numpy_helper.from_array(values.astype(np.float16), f"{name}/float16")
        tensor.CopyFrom(narrow)
        casts.append(helper.make_node("Cast", [narrow.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _write_openvino(graph, path, dtype):
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        frozen = Path(folder, "graph.pb")
        frozen.write_bytes(graph.SerializeToString())
        model = openvino.convert_model(os.fspath(frozen))
    for port in (*model.inputs, *model.outputs):
        known = {name.split(":")[0] for name in port.names} & {INPUT, *OUTPUTS}
        port.get_tensor().set_names(known)
    openvino.save_model(model, os.fspath(path), compress_to_fp16=dtype != "float32")


@contextlib.contextmanager
def _quiet(name):
    """Without what a library logs of its progress, by the name of its logger."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
