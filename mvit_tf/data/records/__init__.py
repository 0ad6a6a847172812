"""Record sets: TFRecord files of prepared videos, written and read without TensorFlow."""
