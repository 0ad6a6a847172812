"""What belongs together: the videos of one source, which a split must not tear apart."""

import os
import re

from mvit_tf.errors import UserError
from mvit_tf.urls import parent


def groups_of(entries, columns, group_by):
    """The group of every entry.

    Args:
        entries: list of Entry.
        columns: tuple of str, the columns of their list.
        group_by: the name of a column; "folder" for the folder that a file lies in; or a regular
            expression found in each file's name, whose first group, if it has any, counts. An
            empty value is a source of its own. Segments of one file belong together whatever it
            says; with None, whole videos have no group.

    Returns:
        tuple of str, or None.

    Raises:
        UserError: neither a column nor an expression found in every name.
    """
    if group_by is None:
        files = tuple(map(_file_of, entries))
        if any(entry.segment for entry in entries) or len(set(files)) < len(files):
            return files
        return None
    return _joined_by_file(entries, _named_groups(entries, columns, group_by))


def _joined_by_file(entries, groups):
    """The same, where groups that share a file, by segments of it, are one."""
    first = {}

    def root(group):
        while first.setdefault(group, group) != group:
            group = first[group]
        return group

    of_file = {}
    for entry, group in zip(entries, groups, strict=True):
        first[root(group)] = root(of_file.setdefault(_file_of(entry), group))
    return tuple(root(group) for group in groups)


def _named_groups(entries, columns, group_by):
    column = re.sub(r"[\s-]+", "_", group_by.lower())
    if column in columns:
        return tuple(entry.fields.get(column) or _file_of(entry) for entry in entries)
    if group_by == "folder":
        return tuple(parent(_file_of(entry)) for entry in entries)
    named = f"group_by={group_by!r} is no column of the list"
    if columns:
        named += f" ({', '.join(filter(None, columns))})"
    try:
        expression = re.compile(group_by)
    except re.error as error:
        raise UserError(f"{named}, and no regular expression: {error}") from None
    groups = []
    for entry in entries:
        file = _file_of(entry)
        found = expression.search(os.path.basename(file))
        if found is None:
            raise UserError(
                f"{named}, and as a regular expression is not found in the name of {file}"
            )
        groups.append(found[1] if expression.groups else found[0])
    return tuple(group or _file_of(entry) for group, entry in zip(groups, entries, strict=True))


def _file_of(entry):
    """The video that an entry is or, if it is a record, was made from."""
    return entry.source or entry.path
