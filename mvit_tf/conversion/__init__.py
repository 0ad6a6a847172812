"""PyTorch weights to Keras and back, and the table of those published.

One module a layout, each a pure function from names and arrays to variables and arrays.
"""

from mvit_tf.conversion.loading import load_pytorch_weights, to_pytorch_state_dict
from mvit_tf.conversion.report import ConversionReport

__all__ = ["ConversionReport", "load_pytorch_weights", "to_pytorch_state_dict"]
