"""What all tests share."""

import pytest

from mvit_tf.cli.logs import console_lines


@pytest.fixture(autouse=True)
def _console():
    """What the project says is printed, as by a command."""
    with console_lines():
        yield
