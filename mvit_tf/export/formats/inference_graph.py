"""The inference pass of a model as one plain TensorFlow graph, which converters read.

Weights are constants, the batch is of one size, and what no converter takes is replaced by what
all of them do.
"""

import keras
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mvit_tf.layers.kernels.compiled import without_xla

INPUT = "frames"
OUTPUTS = ("logits", "probabilities")


def inference_graph(
    model: keras.Model, *, batch_size: int = 1, multi_label: bool = False
) -> graph_pb2.GraphDef:
    """Traces a model.

    Args:
        model: computes in float32.
        batch_size: clips of a call.
        multi_label: whether the probabilities are sigmoids, not a softmax.

    Returns:
        A graph with a placeholder `INPUT`, float32 (batch_size, T, H, W, 3), or of an image model
        (batch_size, H, W, 3), and nodes named as `OUTPUTS`, float32 (batch_size, K).
    """
    activation = tf.nn.sigmoid if multi_label else tf.nn.softmax

    @tf.function(autograph=False)
    def call(frames):
        logits = tf.cast(model(frames, training=False), tf.float32)
        values = (logits, activation(logits))
        return [tf.identity(value, name=name) for name, value in zip(OUTPUTS, values, strict=True)]

    spec = tf.TensorSpec((batch_size, *model.input_shape[1:]), tf.float32, name=INPUT)
    with without_xla():
        graph = convert_variables_to_constants_v2(call.get_concrete_function(spec)).graph
    return pad_before_depthwise(graph.as_graph_def())


def concrete_function(graph: graph_pb2.GraphDef):
    """A graph of `inference_graph` as a function of `INPUT` that returns a dict of `OUTPUTS`."""
    (placeholder,) = (node for node in graph.node if node.op == "Placeholder")
    shape = tf.TensorShape(placeholder.attr["shape"].shape)

    def call(frames):
        results = tf.graph_util.import_graph_def(
            graph,
            input_map={f"{INPUT}:0": frames},
            return_elements=[f"{name}:0" for name in OUTPUTS],
            name="",
        )
        return dict(zip(OUTPUTS, results, strict=True))

    spec = tf.TensorSpec(shape, tf.float32, name=INPUT)
    return tf.compat.v1.wrap_function(call, [spec])


def pad_before_depthwise(graph: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """The same graph with depthwise convolutions of padding VALID after a padding of their own.

    LiteRT's converter and OpenVINO's reader know no depthwise convolution with the paddings of
    each side.
    """
    rewritten = graph_pb2.GraphDef()
    rewritten.CopyFrom(graph)
    del rewritten.node[:]
    for node in graph.node:
        if node.op == "DepthwiseConv2dNative" and node.attr["padding"].s == b"EXPLICIT":
            sides = list(node.attr["explicit_paddings"].list.i)
            paddings, padding, node = _padded(node, sides)
            rewritten.node.extend([paddings, padding])
        rewritten.node.append(node)
    return rewritten


def erf_for_erfc(graph: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """The same graph with 1 + erf(-x) for erfc(x), the GELU's; ONNX has no such operation."""
    rewritten = graph_pb2.GraphDef()
    rewritten.CopyFrom(graph)
    for node in list(rewritten.node):
        if node.op != "Erfc":
            continue
        kind = node.attr["T"]
        one = node_def_pb2.NodeDef(op="Const", name=f"{node.name}/one")
        one.attr["dtype"].CopyFrom(kind)
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.as_dtype(kind.type)))
        negated = node_def_pb2.NodeDef(op="Neg", name=f"{node.name}/negated")
        negated.input.append(node.input[0])
        negated.attr["T"].CopyFrom(kind)
        erf = node_def_pb2.NodeDef(op="Erf", name=f"{node.name}/erf")
        erf.input.append(negated.name)
        erf.attr["T"].CopyFrom(kind)
        rewritten.node.extend([one, negated, erf])
        node.op = "AddV2"
        node.input[:] = [one.name, erf.name]
    return rewritten


def _padded(node, sides):
    """Nodes of the sides, of the padding by them, and of the convolution that is left."""
    paddings = node_def_pb2.NodeDef(op="Const", name=f"{node.name}/paddings")
    paddings.attr["dtype"].type = tf.int32.as_datatype_enum
    values = tf.make_tensor_proto([sides[i : i + 2] for i in range(0, len(sides), 2)], tf.int32)
    paddings.attr["value"].tensor.CopyFrom(values)

    padding = node_def_pb2.NodeDef(op="Pad", name=f"{node.name}/padded")
    padding.input.extend([node.input[0], paddings.name])
    padding.attr["T"].CopyFrom(node.attr["T"])
    padding.attr["Tpaddings"].type = tf.int32.as_datatype_enum

    convolution = node_def_pb2.NodeDef()
    convolution.CopyFrom(node)
    convolution.input[0] = padding.name
    convolution.attr["padding"].s = b"VALID"
    del convolution.attr["explicit_paddings"].list.i[:]
    return paddings, padding, convolution
