"""What a command says on standard error beside what TensorFlow's C++ side says there."""

import re

# What XLA says when it first compiles, and, on older versions of TensorFlow, what is registered
# at start-up, past any level of logging.
_OF_TENSORFLOW = re.compile(
    r"[IWE]\d{4} |\d{4}-\d\d-\d\d .*: [IWE] |WARNING: All log messages before"
)


def own_words(stderr):
    """The text without TensorFlow's lines and empty ones."""
    lines = stderr.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() and not _OF_TENSORFLOW.match(line))
