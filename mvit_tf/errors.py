"""What speaks to the person at the keyboard: an exception, a warning, words of their messages."""

import difflib
from collections.abc import Iterable

from mvit_tf.files import printable
from mvit_tf.urls import without_secrets


class UserError(ValueError):
    """A mistake of the user's: its message says what is wrong, where, and what to do.

    Command line front ends print it as one line and exit with status 2; every other
    exception is a defect of this project and keeps its traceback.
    """

    def __str__(self):
        # TensorFlow crashes on an exception in a pipeline whose text cannot be encoded.
        return without_secrets(printable(super().__str__()))


class FormerNameWarning(FutureWarning):
    """A name or form of an older version was taken; the message says the one of today."""


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them."""
    known = list(known)
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if matches:
        return f"did you mean '{prefix}{matches[0]}'?"
    return f"known: {', '.join(known)}"
