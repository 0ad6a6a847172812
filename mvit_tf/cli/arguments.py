"""Types of command line arguments that several commands share."""

import argparse


def positive_int(text: str) -> int:
    """An integer of at least 1; anything else ends in argparse's own message."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number
