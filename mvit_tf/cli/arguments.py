"""Types of command line arguments that several commands share."""

import argparse
import math


class IntermixedParser(argparse.ArgumentParser):
    """Takes options anywhere, also between the other arguments.

    argparse by itself fills all positional arguments at the first of them, and then knows no place
    for those behind an option.
    """

    _parsing = False

    def parse_known_args(self, args=None, namespace=None):
        # What is called here calls this method for each of its two passes.
        if self._parsing or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._parsing = False


def positive_int(text: str) -> int:
    """An integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return number


def one_of(*legal: str):
    """A type for words of a given few."""

    def parse(text):
        if text not in legal:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(legal)}, got {text!r}")
        return text

    return parse


def list_of(parse):
    """A type for several values with commas between them; `parse` makes each."""
    return lambda text: list(dict.fromkeys(parse(part) for part in text.split(",")))
