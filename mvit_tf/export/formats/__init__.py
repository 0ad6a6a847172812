"""Models for runtimes other than TensorFlow: LiteRT, ONNX Runtime and OpenVINO."""
