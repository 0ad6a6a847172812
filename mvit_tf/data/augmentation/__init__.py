"""Random changes of training clips, each the same over a clip's frames, in TensorFlow's graph."""
