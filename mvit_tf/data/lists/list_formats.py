"""Lists of labelled videos in a file, in the forms that data sets come in.

- Plain: one ``path label`` a line, as SlowFast and PyTorchVideo read it. The label is the last
  field, so a path may hold the separator.
- CSV with a header, as pandas writes it: the first line names a column of `PATH_COLUMNS` or
  `ID_COLUMNS` and one of `LABEL_COLUMNS`, with commas, semicolons, tabs or spaces between.
  Columns of the start and end make the entry a segment of the video, in seconds. The annotation
  files of Kinetics are of this form.
- JSON: a list of objects with the same names as keys, as Something-Something v2 has it; a
  `labels.json` beside it numbers the classes.
- The CSV of Charades, see `charades`: actions with start and end, found by the column `actions`.

In the last three, names are compared without regard to case, and with spaces and hyphens as
underscores. Where a text is quoted ("a,b"), the quotes are not part of it.

A label is one text as it stands, unless the list is read as a multi-label one: then it is several
with ";" or "|" between them, or a JSON array (`["run", "jump"]`, `[0, 4]`), and an empty label
column means none. A JSON array and the column `actions` are refused otherwise.
"""

import collections
import csv
import io
import json
import os
import re

from mvit_tf.data.lists.charades import ACTIONS_COLUMN, class_names_beside, parse_actions
from mvit_tf.data.lists.class_names import load_class_names, one_spelling, read_json, read_text
from mvit_tf.data.lists.entries import (
    Entry,
    Listing,
    is_image,
    is_split_name,
    is_training_name,
    is_video,
    refuse,
)
from mvit_tf.data.remote import files_under, is_file
from mvit_tf.errors import UserError
from mvit_tf.urls import is_url, join, parent, without_query

# Of several in a list, the first here is taken.
PATH_COLUMNS = (
    "path", "video_path", "file_path", "filepath", "filename", "file_name", "file", "video",
    "video_name", "clip", "clip_path", "name",
)  # fmt: skip
# A name without extension, of a file anywhere under the root.
ID_COLUMNS = ("youtube_id", "video_id", "vid_name", "id")
LABEL_COLUMNS = (
    "template", "label", "class", "class_name", "category", "action", "label_name", "target",
    "class_id", "label_id", "class_index", "labels", ACTIONS_COLUMN,
)  # fmt: skip
START_COLUMNS = ("time_start", "start", "start_time", "start_seconds", "start_sec", "t_start")
END_COLUMNS = ("time_end", "end", "end_time", "end_seconds", "end_sec", "t_end")
SPLIT_COLUMNS = ("split", "subset", "partition")
_YES_NO_COLUMN = re.compile(r"(is|in|for)_(train|training|val|valid|validation|test|testing)")
FOLD_COLUMN = re.compile(r"(k|cv_?|cross_?)?fold(_?(id|index|number|no))?")
# What stands for a label that is not there, where pandas wrote the list.
_NO_LABEL = ("", "nan", "<na>")

_SEPARATORS = (",", "\t", ";", " ")
_LABEL_MAPS = ("labels.json", "something-something-v2-labels.json")


def read_list(file, *, root=None, separator=None, multi_label=False, fault=refuse):
    """Reads a list in any of the forms above. Empty lines are passed over.

    Args:
        file: path of the list, UTF-8; JSON where it ends in ".json".
        root: optional folder that relative paths start from, and under which files are looked
            for by id; by default the list's own folder.
        separator: optional str between path and label, "\\\\t" written out for a tab; by default
            any white space, or what the header of a CSV shows.
        multi_label: bool. Each label is a tuple of them.
        fault: function of a message, for a line that cannot be used.

    Returns:
        Listing in the order of the lines. Of a video with an id, a file named
        ``<id>_<start>_<end>`` (six digits each) is a segment cut out already, while a file named
        ``<id>`` holds it.

    Raises:
        UserError: no such file, not text, or no videos in it; by `fault` also a line that lacks
            something, whose message names file and line.
    """
    root = parent(file) if root is None else os.fspath(root)
    # Excel's own first line would hide the header.
    text = re.sub(r"\Asep=.\n", "\n", read_text(file))
    if without_query(file).lower().endswith(".json"):
        columns, records = _json_records(file, text)
        names = _label_map_beside(file)
        listing = _of_records(file, root, columns, records, ".webm", multi_label, fault)
        listing = Listing(listing.entries, columns, names)
    else:
        separator = None if separator is None else separator.replace("\\t", "\t")
        delimiter = _delimiter_of_header(file, text, separator)
        if delimiter is None:
            listing = Listing(_plain_entries(file, root, text, separator, multi_label, fault))
        else:
            columns, records = _csv_records(file, text, delimiter, fault)
            listing = _of_records(file, root, columns, records, ".mp4", multi_label, fault)
    if not listing.entries:
        fault(f"{file}: no videos in this list; write one 'path label' a line")
    return listing


def first_column(columns, known):
    """The first name of `known` that is among `columns`, or None."""
    return next((name for name in known if name in columns), None)


def split_column(entries, columns):
    """The column that says which side of a split an entry is on, by its name or by what it holds.

    Returns:
        str, or None.
    """
    named = first_column(columns, SPLIT_COLUMNS)
    if named is not None:
        return named
    of_others = (*PATH_COLUMNS, *ID_COLUMNS, *LABEL_COLUMNS, *START_COLUMNS, *END_COLUMNS)
    for column in columns:
        if column in of_others:
            continue
        held = {entry.fields.get(column, "") for entry in entries}
        sides = all(map(is_split_name, held)) and any(map(is_training_name, held))
        if len(held) > 1 and (sides or _YES_NO_COLUMN.fullmatch(column)):
            return column
    return None


def split_labels(text):
    """The labels that a text stands for, by the rule of multi-label lists above: a tuple of str."""
    labels = _json_array(text)
    if labels is None:
        labels = re.split("[;|]", text)
    spelled = (one_spelling(label.strip()) for label in labels)
    return tuple(dict.fromkeys(label for label in spelled if label.lower() not in _NO_LABEL))


def _json_array(text):
    """The texts of a JSON array of texts or numbers; None where it is something else."""
    try:
        values = json.loads(text) if text.startswith("[") else None
    except json.JSONDecodeError:
        return None
    plain = isinstance(values, list) and all(isinstance(value, str | int) for value in values)
    return [str(value) for value in values] if plain else None


def _plain_entries(file, root, text, separator, multi_label, fault):
    between = r"\s+" if separator is None else re.escape(separator)
    label = r"\S+" if separator is None else f"(?:(?!{between}).)+"
    last_field = re.compile(rf'{between}\s*("(?:[^"]|"")*"|{label})$')
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line:
            continue
        found = last_field.search(line)
        path = _unquoted(line[: found.start()]) if found else ""
        label = _unquoted(found[1]) if found else ""
        # A CSV without a header would be cut wherever one of its paths holds a space.
        tail = found[1] if found else line
        commas = separator is None and "," in tail and not (found and tail.startswith('"'))
        # One that has another separator, and labels of several words or blanks around them.
        other = separator is None and (
            "\t" in path
            or path.endswith((",", ";"))
            or (";" in path and not _is_video_or_image(path))
        )
        if commas or other or not path or not label:
            shown = "white space" if separator is None else repr(separator)
            hint = (
                "; say what stands before the label by the separator: ',', ';' or '\\t', or name "
                "the columns in a first line, such as path,label"
            )
            hint = hint if commas or other or ";" in line else ""
            hint = "; it has no label" if _is_video_or_image(line) and "," not in line else hint
            fault(
                f"{file}, line {number}: expected 'path label' with {shown} between, "
                f"got {line!r}{hint}"
            )
            continue
        label = split_labels(label) if multi_label else one_spelling(label)
        entries.append(Entry(_file(root, path), label, f"line {number}"))
    _refuse_unknown_header(file, entries)
    return entries


def _file(root, path):
    """The path of a file; one written on Windows, unless a file is named so, with slashes."""
    full = join(root, path)
    if "\\" in path and os.sep == "/" and (is_url(full) or not os.path.lexists(full)):
        return join(root, path.replace("\\", "/"))
    return full


def _is_video_or_image(name):
    return is_video(name) or is_image(name)


def _unquoted(text):
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1].replace('""', '"').strip()
    return text


def _refuse_unknown_header(file, entries):
    """A first line whose path alone has no extension would become a video of a class."""
    suffixes = [bool(os.path.splitext(entry.path)[1]) for entry in entries]
    if len(suffixes) > 1 and not suffixes[0] and all(suffixes[1:]):
        raise UserError(
            f"{file}, {entries[0].place}: {os.path.basename(entries[0].path)!r} and "
            f"{entries[0].label!r} look like a header; name the columns 'path' and 'label', or "
            "remove the line"
        )


def _delimiter_of_header(file, text, separator):
    """What stands between the names of a first line that is a header; None if it is none."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    for delimiter in _SEPARATORS if separator is None else (separator,):
        if len(delimiter) != 1:
            continue
        try:
            fields = next(_csv_reader([first], delimiter), ())
        except csv.Error:
            continue
        # A plain line, whose path holds a word that is a column elsewhere.
        if any(map(_is_video_or_image, fields)):
            continue
        columns = _column_names(fields)
        path = first_column(columns, PATH_COLUMNS + ID_COLUMNS)
        if path and first_column(columns, LABEL_COLUMNS):
            return delimiter
        if path and len(columns) > 2:
            raise UserError(
                f"{file}: its header has a column {path}, but none for the label (columns: "
                f"{', '.join(columns)}; known: {', '.join(LABEL_COLUMNS)})"
            )
    return None


def _csv_reader(lines, delimiter):
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter != " ", strict=True)


def _column_names(names):
    return tuple(re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names)


def _csv_records(file, text, delimiter, fault):
    """(column names, [(place, dict column -> text)])."""
    reader = _csv_reader(io.StringIO(text), delimiter)
    columns, records, line = None, [], 1
    try:
        for fields in reader:
            place, line = f"line {line}", reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if columns is None:
                header, columns = fields, _column_names(fields)
                twice = [name for name in columns if name and columns.count(name) > 1]
                if twice:
                    raise UserError(f"{file}, {place}: two columns are named {twice[0]!r}")
            elif fields == header:
                fault(f"{file}, {place}: the header once more; remove the line")
            elif len(fields) != len(columns):
                fault(
                    f"{file}, {place}: {len(fields)} fields, but the header names {len(columns)}; "
                    "put a text that holds the separator into quotes"
                )
            else:
                values = (field.strip() for field in fields)
                records.append((place, dict(zip(columns, values, strict=True))))
    except csv.Error as error:
        raise UserError(f"{file}, line {line}: not CSV: {error}; is a quote left open?") from None
    return columns, records


def _json_records(file, text):
    content = read_json(file, text)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise UserError(f"{file}: a list of videos in JSON is a list of objects with id and label")
    records = [
        (f"entry {number}", dict(zip(_column_names(item), map(_text, item.values()), strict=True)))
        for number, item in enumerate(content, start=1)
    ]
    columns = tuple(dict.fromkeys(name for _, record in records for name in record))
    for known, what in ((PATH_COLUMNS + ID_COLUMNS, "id"), (LABEL_COLUMNS, "label")):
        if records and first_column(columns, known) is None:
            raise UserError(f"{file}: its objects have no {what} (keys: {', '.join(columns)})")
    return columns, records


def _text(value):
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)


def _label_map_beside(file):
    for name in _LABEL_MAPS:
        path = join(parent(file), name)
        if is_url(file):
            beside = path != file and is_file(path)
        else:
            beside = os.path.isfile(path) and not os.path.samefile(path, file)
        if beside:
            return load_class_names(path)
    return None


def _of_records(file, root, columns, records, extension, multi_label, fault):
    path_column = first_column(columns, PATH_COLUMNS)
    id_column = None if path_column else first_column(columns, ID_COLUMNS)
    label_column = first_column(columns, LABEL_COLUMNS)
    times = first_column(columns, START_COLUMNS), first_column(columns, END_COLUMNS)
    if any(times) and not all(times):
        raise UserError(f"{file}: a column of the start or of the end of the segments is missing")
    if not multi_label:
        _refuse_several_labels(file, label_column, records)
    files = _files_by_stem(root) if id_column else {}
    entries = []
    for place, record in records:
        try:
            segment = _segment(*(record.get(time, "") for time in times)) if all(times) else None
            name, written = record.get(path_column or id_column, ""), record.get(label_column, "")
            if not name:
                raise UserError(f"no {path_column or id_column} is given")
            if written.lower() in _NO_LABEL and not multi_label:
                given = f" ({written})" if written else ""
                raise UserError(f"no {label_column} is given{given}")
            label, intervals = _label(label_column, written, multi_label)
            if id_column and not _is_video_or_image(name):
                path, segment = _file_of_id(files, name, segment, root, extension)
            else:
                path = _file(root, name)
        except UserError as error:
            fault(f"{file}, {place}: {error}")
            continue
        entries.append(Entry(path, label, place, segment, record, intervals=intervals))
    return Listing(
        entries, columns, class_names_beside(file) if label_column == ACTIONS_COLUMN else None
    )


def _refuse_several_labels(file, column, records):
    for place, record in records:
        if column == ACTIONS_COLUMN or _json_array(record.get(column, "")) is not None:
            raise UserError(
                f"{file}, {place}: the column {column} gives a video any number of labels; set "
                "data.multi_label=true"
            )


def _label(column, text, multi_label):
    """(label or tuple of them, intervals or None) of a text in the label column."""
    if column == ACTIONS_COLUMN:
        return parse_actions("" if text.lower() in _NO_LABEL else text)
    if column == "template":
        text = re.sub(r"\[(.*?)\]", r"\1", text)
    return (split_labels(text) if multi_label else one_spelling(text)), None


def _segment(start, end):
    """(start, end) in seconds; None where neither is given."""
    if not start and not end:
        return None
    try:
        segment = float(start), float(end)
    except ValueError:
        raise UserError(f"start {start!r} and end {end!r} must be numbers of seconds") from None
    if not 0 <= segment[0] < segment[1] < float("inf"):
        raise UserError(f"the segment from {start} to {end} seconds is empty")
    return segment


def _files_by_stem(root):
    """Name without extension -> paths of the videos of that name anywhere under `root`."""
    files = collections.defaultdict(list)
    if is_url(root):
        for path in filter(is_video, files_under(root)):
            files[os.path.splitext(os.path.basename(path))[0]].append(path)
        return files
    for folder, folders, names in os.walk(root or "."):
        folders.sort()
        for name in sorted(filter(is_video, names)):
            files[os.path.splitext(name)[0]].append(os.path.join(folder, name))
    return files


def _file_of_id(files, name, segment, root, extension):
    """(path, segment in it) of the video with an id."""
    stems = [(name, segment)]
    if segment is not None:
        start, end = (int(time) for time in segment)
        stems.insert(0, (f"{name}_{start:06d}_{end:06d}", None))
    for stem, part in stems:
        if len(files.get(stem, ())) > 1:
            raise UserError(f"two files are named {stem}: {files[stem][0]} and {files[stem][1]}")
        if stem in files:
            return files[stem][0], part
    # It is missing, and will be counted as that.
    stem, part = stems[0]
    return join(root, stem + extension), part
