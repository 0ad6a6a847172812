"""The one exception that speaks to the person at the keyboard."""

from mvit_tf.files import printable


class UserError(ValueError):
    """A mistake of the user's: its message says what is wrong, where, and what to do.

    Command line front ends print it as one line and exit with status 2; every other
    exception is a defect of this project and keeps its traceback.
    """

    def __str__(self):
        # TensorFlow crashes on an exception in a pipeline whose text cannot be encoded.
        return printable(super().__str__())
