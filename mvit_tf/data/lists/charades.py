"""The annotations of Charades: a CSV whose column `actions` says what is done, and when.

    id,...,actions,length
    46GP8,...,c092 11.90 21.20;c147 0.00 12.60,24.83

An entry of that column is a class, its start and its end in seconds. A file of the classes beside
the CSV, one ``c092 Taking a pillow from somewhere`` a line, numbers and names them.
"""

import re

from mvit_tf.data.lists.class_names import load_class_names, one_spelling
from mvit_tf.data.remote import is_file
from mvit_tf.errors import UserError
from mvit_tf.urls import join, parent

ACTIONS_COLUMN = "actions"
CLASSES_FILE = "Charades_v1_classes.txt"

_ACTION = re.compile(r"(\S.*?)\s+([0-9.]+)\s+([0-9.]+)")
_CLASS = re.compile(r"(c[0-9]{3}) .+")


def parse_actions(text):
    """Reads a cell of the column `actions`.

    Returns:
        (labels, intervals): tuple of str, and for each (start, end) in seconds. The same class may
        come several times.

    Raises:
        UserError: an entry is not a class with a start and an end.
    """
    labels, intervals = [], []
    for action in filter(None, map(str.strip, text.split(";"))):
        found = _ACTION.fullmatch(action)
        try:
            start, end = (float(moment) for moment in found.groups()[1:])
        except (AttributeError, ValueError):
            raise UserError(
                f"action {action!r} is not a class with start and end in seconds, such as "
                "'c092 11.90 21.20'; put ';' between several"
            ) from None
        if end < start:
            raise UserError(f"action {action!r} ends before it starts")
        labels.append(one_spelling(found[1]))
        intervals.append((start, end))
    return tuple(labels), tuple(intervals)


def class_ids(class_names):
    """dict id -> index of classes named as in Charades, ``c092 Taking a pillow``; else empty."""
    found = [_CLASS.fullmatch(name) for name in class_names]
    return {match[1]: index for index, match in enumerate(found)} if all(found) else {}


def class_names_beside(file):
    """The classes in the file that Charades has beside its lists, or None where it is not there."""
    path = join(parent(file), CLASSES_FILE)
    return load_class_names(path) if is_file(path) else None
