"""Names of classes: how they are compared, saved and read, and which label means which."""

import codecs
import collections
import io
import json
import os
import re
import unicodedata

from mvit_tf.data.remote import open_file
from mvit_tf.errors import UserError
from mvit_tf.files import printable, write_text_atomically
from mvit_tf.remote_path import RemotePath, as_path


def one_spelling(name):
    """The form in which names of classes are compared, whatever system wrote them.

    macOS decomposes accents in file names, others do not; a name that is not UTF-8, which
    Python reads as lone surrogates, could not be written into any file.
    """
    return unicodedata.normalize("NFC", printable(name))


def loose_spelling(name):
    """What names share that differ only in case, blanks, hyphens, underscores or leading zeros."""
    words = re.sub(r"[\s_-]+", " ", one_spelling(name).casefold()).strip()
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", words)


def alike_names(names):
    """Lists of those of some names that have one `loose_spelling`, in the order of the first."""
    alike = collections.defaultdict(list)
    for name in names:
        alike[loose_spelling(name)].append(name)
    return [same for same in alike.values() if len(same) > 1]


def shortened(names, most=5):
    """The first few of some names, as text."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def label_index(text):
    """The class index written in decimal digits, or None: `1_0`, say, is text."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


def save_class_names(path, names):
    """Writes the names in index order, one a line.

    Raises:
        UserError: a name that is empty, holds a line break, or comes twice.
    """
    _check_names(path, names)
    write_text_atomically(as_path(path), "".join(f"{name}\n" for name in names))


def load_class_names(path):
    """Reads a label map.

    Args:
        path: of a text file with one name a line in index order, as `save_class_names` writes
            it, or of a JSON file of the form ``{"name": index}`` or ``["name", ...]``.

    Returns:
        tuple of str in index order, accents composed (NFC).

    Raises:
        UserError: no such file, an empty one, indices other than 0 to K - 1, or a name that is
            empty or comes twice.
    """
    text = read_text(path)
    path = os.fspath(path)
    names = _names_of_json(path, text) if path.endswith(".json") else text.split("\n")
    if names and not path.endswith(".json") and not names[-1]:
        names.pop()
    names = tuple(map(one_spelling, names))
    if not names:
        raise UserError(f"{path}: no class names in it; write one a line, in index order")
    _check_names(path, names)
    return names


def load_label_map(path):
    """`load_class_names` of a file that somebody wrote.

    Raises:
        UserError: as there, or the lines hold numbers beside the names.
    """
    names = load_class_names(path)
    for form in (r"([0-9]+)[,;\t ].*", r".*[,;\t ]([0-9]+)"):
        found = [re.fullmatch(form, name) for name in names[1:]]  # The first may be a header.
        numbers = [int(match[1]) for match in found if match]
        if len(numbers) == len(found) > 1 and numbers[-1] - numbers[0] == len(found) - 1:
            raise UserError(
                f"{path}, line 2: {names[1]!r} has a number beside the name; write one name a "
                'line, in index order, or JSON {"name": index}'
            )
    return names


def read_text(path):
    """The text of a file in UTF-8, or in UTF-16 with its mark, its lines ended by "\\n".

    Raises:
        UserError: no such file, or not a text.
    """
    try:
        with _opened(path) as file:
            content = file.read()
        # As Excel saves "Unicode text".
        if re.match(rb"\s*<(!doctype html|html)", content[:100], re.IGNORECASE):
            raise UserError(f"{path}: a web page; give a list of videos, as a text")
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = io.StringIO(content.decode("utf-16" if is_utf16 else "utf-8-sig"), newline=None)
        return text.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a file") from None
    except UserError:
        raise
    except UnicodeError:
        kind = "a workbook or archive" if content[:4] == b"PK\3\4" else "not a text file in UTF-8"
        raise UserError(f"{path}: {kind}; save it as text in UTF-8 (CSV UTF-8 in Excel)") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _opened(path):
    return io.BytesIO(path.read_bytes()) if isinstance(path, RemotePath) else open_file(path)


def read_json(path, text):
    """The value that `text` of the file `path` holds.

    Raises:
        UserError: not JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None


def _names_of_json(path, text):
    content = read_json(path, text)
    if isinstance(content, list):
        if not all(isinstance(name, str) for name in content):
            raise UserError(f"{path}: a label map in JSON that is a list holds names only")
        return content
    if not isinstance(content, dict):
        raise UserError(f'{path}: a label map in JSON is {{"name": index, ...}} or a list of names')
    by_index = {label_index(str(index)): name for name, index in content.items()}
    if by_index.keys() != set(range(len(content))):
        raise UserError(
            f"{path}: the indices of its {len(content)} names must be 0 to {len(content) - 1}, "
            "each once"
        )
    return [by_index[index] for index in range(len(content))]


def _check_names(path, names):
    first_line = {}
    for line, name in enumerate(names, start=1):
        if not name.strip() or len(name.splitlines()) != 1:
            raise UserError(f"{path}, line {line}: {name!r} is not a class name")
        if first_line.setdefault(one_spelling(name), line) != line:
            raise UserError(f"{path}, line {line}: class name {name!r} comes twice")
