"""The formats, the dtypes that each holds, and the names of their files."""

from mvit_tf.errors import UserError

SAVED_MODEL = "saved_model"
MODEL_FILES = {"litert": "model.tflite", "onnx": "model.onnx", "openvino": "model.xml"}
FORMATS = (SAVED_MODEL, *MODEL_FILES)
# What each holds. Weights of float16 are computed with in float32, where the machine has no better.
DTYPES = {
    SAVED_MODEL: ("float32", "float16", "bfloat16", "int8", "int4"),
    "litert": ("float32", "float16", "int8"),
    "onnx": ("float32", "float16", "int8"),
    "openvino": ("float32", "float16", "bfloat16"),
}
_WHY_NOT = {
    ("litert", "bfloat16"): "LiteRT has no kernels for it",
    ("litert", "int4"): "TensorFlow's converter writes int8 weights only",
    ("onnx", "bfloat16"): "ONNX Runtime has no bfloat16 kernels for CPUs",
    ("onnx", "int4"): "ONNX Runtime's int4 products are of its own operators, not of ONNX",
    ("openvino", "int8"): "its int8 weights come from NNCF, which is not used here",
    ("openvino", "int4"): "its int4 weights come from NNCF, which is not used here",
}


def check_dtype(format: str, dtype: str):
    """Refuses a dtype that a format does not hold.

    Raises:
        UserError: it does not.
    """
    if dtype not in DTYPES[format]:
        why = _WHY_NOT[format, dtype]
        raise UserError(f"{format} in {dtype}: {why}; give one of {', '.join(DTYPES[format])}")
