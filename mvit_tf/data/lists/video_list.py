"""Labelled videos, from class folders or from a list."""

import dataclasses
import math
import os
import re

import numpy as np

from mvit_tf.data.lists.charades import class_ids
from mvit_tf.data.lists.class_folders import read_class_folders
from mvit_tf.data.lists.class_names import (
    alike_names,
    label_index,
    loose_spelling,
    one_spelling,
    shortened,
)
from mvit_tf.data.lists.entries import refuse
from mvit_tf.data.lists.groups import groups_of
from mvit_tf.data.lists.list_formats import (
    FOLD_COLUMN,
    SPLIT_COLUMNS,
    read_list,
    split_column,
)
from mvit_tf.data.records.index import read_records, record_files
from mvit_tf.data.records.tfds import is_tfds_folder, read_tfds
from mvit_tf.data.remote import is_file, is_folder, require_readable
from mvit_tf.errors import UserError
from mvit_tf.urls import absolute, scheme

# A label from here on is a date or an identifier, not an index.
_MOST_CLASSES = 100_000
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class VideoList:
    """Videos, or segments of them, with their labels.

    Args:
        paths: tuple of str, the files; several segments of one file repeat its path.
        labels: tuple of int, one for each path, each an index into `class_names`; of a multi-label
            list, for each path a tuple of them, maybe empty.
        class_names: tuple of str, in index order.
        segments: optional tuple, for each path (start, end) in seconds of the part of the video
            that is the example, or None for all of it.
        groups: optional tuple of str, for each path what it shares its source with.
        intervals: optional tuple, for each path of a multi-label list a tuple of (label, start,
            end): the label counts in these seconds of the video, otherwise in all of it. A label
            may have several.
        passed_over: tuple of (path, reason), what lies beside the videos and is none of them;
            lists that differ in nothing else are equal.
        notes: tuple of str, what the source makes one wonder about; likewise.

    Raises:
        UserError: lengths that differ, labels of both kinds, or a label without a name.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...] | tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]
    segments: tuple[tuple[float, float] | None, ...] | None = None
    groups: tuple[str, ...] | None = None
    intervals: tuple[tuple[tuple[int, float, float], ...], ...] | None = None
    passed_over: tuple[tuple[str, str], ...] = dataclasses.field(default=(), compare=False)
    notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self):
        for name in ("labels", "segments", "groups", "intervals"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.paths):
                raise UserError(f"{len(self.paths)} paths but {len(values)} {name}")
        if len({isinstance(label, tuple) for label in self.labels}) > 1:
            raise UserError("some labels are one index, others several; give a tuple for each")
        for index, path in enumerate(self.paths):
            for label in self.labels_of(index):
                if not 0 <= label < len(self.class_names):
                    raise UserError(
                        f"{path}: label {label} is outside 0 to {len(self.class_names) - 1}, "
                        f"the indices of the {len(self.class_names)} classes"
                    )

    def __len__(self):
        return len(self.paths)

    @property
    def num_classes(self):
        """Number of classes, whether or not each has a video here."""
        return len(self.class_names)

    @property
    def multi_label(self):
        """Whether a video may have any number of labels."""
        return bool(self.labels) and isinstance(self.labels[0], tuple)

    def labels_of(self, index):
        """The labels of video `index`, a tuple of int."""
        label = self.labels[index]
        return label if isinstance(label, tuple) else (label,)

    def label_matrix(self):
        """bool array (videos, num_classes): which labels each video has."""
        matrix = np.zeros((len(self), self.num_classes), bool)
        for index in range(len(self)):
            matrix[index, list(self.labels_of(index))] = True
        return matrix

    def videos_per_class(self):
        """int array (num_classes,): how many videos each class has here."""
        labels = [label for index in range(len(self)) for label in set(self.labels_of(index))]
        return np.bincount(np.asarray(labels, np.int64), minlength=self.num_classes)

    def target(self, index, first, last):
        """What a model should answer to a clip of video `index`.

        A label with intervals counts where one of them, ``start <= t < end``, holds a moment of
        the clip's span; any other counts always.

        Args:
            index: int.
            first, last: float, the earliest and the latest moment of the clip's frames, in seconds.

        Returns:
            float32 array (num_classes,) of zeros and ones.
        """
        labels = set(self.labels_of(index))
        if self.intervals is not None:
            timed = self.intervals[index]
            labels -= {label for label, _, _ in timed}
            labels |= {label for label, start, end in timed if start <= last and first < end}
        target = np.zeros(self.num_classes, np.float32)
        target[list(labels)] = 1
        return target

    def segment(self, index):
        """(start, end) in seconds of the part of video `index` to look at, or None for all."""
        return None if self.segments is None else self.segments[index]

    def name(self, index):
        """What video `index` is called in accounts: its path, and the segment if it is one."""
        segment = self.segment(index)
        if segment is None:
            return self.paths[index]
        return self.paths[index] + " {:.10g}-{:.10g} s".format(*segment)

    def subset(self, indices):
        """The videos at `indices`, in that order, with the same class names; no `passed_over`."""
        of = {
            name: None if values is None else tuple(values[i] for i in indices)
            for name in ("paths", "labels", "segments", "groups", "intervals")
            for values in [getattr(self, name)]
        }
        return VideoList(class_names=self.class_names, **of)


def load_video_list(
    source,
    *,
    root=None,
    separator=None,
    class_names=None,
    split=None,
    group_by=None,
    nested=False,
    multi_label=False,
    images=False,
    problems=None,
):
    """Reads class folders (`class_folders`) or a list in any form of `list_formats`.

    The labels of a list are class names where `class_names` is given and holds them, or where no
    label is an integer (then the sorted names are the classes); else class indices.

    Args:
        source: path of a folder of class folders, of a list, of a record set (`record_files`), or
            of a set of TensorFlow Datasets.
        root: optional folder that relative paths of a list start from; by default its own.
        separator: optional str between path and label of a list.
        class_names: optional sequence of str, the classes in index order.
        split: optional str. Only the lines of a list whose `split_column` says so.
        group_by: optional str: see `groups_of`.
        nested: bool. Take the videos of folders within class folders too.
        multi_label: bool. A video may have any number of labels; how a list writes them is said
            in `list_formats`.
        images: bool. Of class folders, take the images instead of the videos.
        problems: optional list of str. Mistakes of single lines and class folders are added to
            it and what they concern is left out, where otherwise the first one is raised.

    Returns:
        VideoList in the order of the lines, or by class and name. Without `class_names`, integer
        labels get the names "0", "1", ... up to the largest label.

    Raises:
        UserError: nothing there, or a mistake; the message names file and line.
    """
    source = os.fspath(source)
    fault = refuse if problems is None else problems.append
    try:
        in_folders, records = False, None if is_tfds_folder(source) else record_files(source)
        if records is None:
            require_readable(source)
            in_folders = is_folder(source)
        in_list = records is None and not in_folders and is_file(source)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror or error}") from None
    if is_tfds_folder(source):
        listing = read_tfds(source)
    elif records is not None:
        listing = read_records(source, records, multi_label)
    elif in_folders:
        listing = read_class_folders(
            source, class_names=class_names, nested=nested, images=images, fault=fault
        )
    elif in_list:
        listing = read_list(
            source, root=root, separator=separator, multi_label=multi_label, fault=fault
        )
    else:
        raise UserError(
            f"{source}: no such folder or file; give a folder with one subfolder of videos for "
            "each class, or a list of them"
        )
    entries = _of_split(source, listing, split)
    if records is None:  # Those are read by TensorFlow.
        for path in {scheme(entry.path): entry.path for entry in entries}.values():
            require_readable(path)
    to_index, names = _label_map(source, entries, class_names or listing.class_names)
    kept, labels, seen = [], [], {}
    for entry in entries:
        found = [to_index(label) for label in entry.labels]
        mistake = next((wrong for _, wrong in found if wrong), None)
        key = absolute(entry.path), entry.segment
        if key in seen:
            cure = "put all its labels there" if multi_label else "keep one of the two"
            mistake = f"{entry.path} is already on {seen[key]}; {cure}"
        if mistake:
            fault(f"{source}, {entry.place}: {mistake}")
            continue
        seen[key] = entry.place
        kept.append(entry)
        labels.append(tuple(index for index, _ in found))
    try:
        groups = groups_of(kept, listing.columns, group_by)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    intervals = None
    if any(entry.intervals for entry in kept):
        always = (-math.inf, math.inf)
        times_of = [entry.intervals or (always,) * len(entry.labels) for entry in kept]
        intervals = tuple(
            tuple((label, *time) for label, time in zip(of_entry, times, strict=True))
            for of_entry, times in zip(labels, times_of, strict=True)
        )
    if multi_label:
        labels = tuple(tuple(sorted(set(of_entry))) for of_entry in labels)
    else:
        labels = tuple(label for (label,) in labels)
    return VideoList(
        paths=tuple(entry.path for entry in kept),
        labels=labels,
        class_names=names,
        segments=tuple(entry.segment for entry in kept) if any(e.segment for e in kept) else None,
        groups=groups,
        intervals=intervals,
        passed_over=listing.passed_over,
        notes=(*_fold_notes(source, listing, group_by), *_name_notes(source, names)),
    )


def _fold_notes(source, listing, group_by):
    for column in listing.columns:
        if FOLD_COLUMN.fullmatch(column) and column != group_by:
            yield (
                f"{source}: the column {column} is not looked at; data.group_by={column} keeps "
                "each on one side of the split"
            )


def _name_notes(source, names):
    alike = [" and ".join(map(repr, same)) for same in alike_names(names)]
    if alike:
        named = "; ".join(alike[:_NAMED]) + ("; ..." if len(alike) > _NAMED else "")
        yield (
            f"{source}: classes {named} "
            "differ only in how they are written: should they be one, write them the same"
        )


def _of_split(source, listing, split):
    """The entries of one split; of all where the list knows only one."""
    column = split_column(listing.entries, listing.columns)
    if column is None:
        if split is not None:
            raise UserError(
                f"{source} has no column {' or '.join(SPLIT_COLUMNS)} to take {split!r} from"
            )
        return listing.entries
    known = sorted({entry.fields.get(column, "") for entry in listing.entries})
    if split is None and len(known) <= 1:
        return listing.entries
    if split not in known:
        raise UserError(
            f"{source}: the column {column} holds {', '.join(map(repr, known))}; "
            + (
                "say which to take, by train_split or validation_split"
                if split is None
                else f"{split!r} is none of them"
            )
        )
    return [entry for entry in listing.entries if entry.fields.get(column, "") == split]


def _are_padded(labels):
    """Whether labels are such as "007": a name, as no index is written so."""
    return any(re.fullmatch("0[0-9]+", label) for label in labels)


def _label_map(source, entries, class_names):
    """(function of a label's text -> (index, None) or (None, what is wrong), class names)."""
    written = [(label, entry.place) for entry in entries for label in entry.labels]
    indices = [label_index(label) for label, _ in written]
    most = max((index for index in indices if index is not None), default=-1)
    if class_names is not None:
        names = tuple(class_names)
    elif entries and not written:
        raise UserError(f"{source}: none of its {len(entries)} videos has a label")
    elif all(index is None for index in indices) or _are_padded(label for label, _ in written):
        indices = [None] * len(written)
        names = tuple(sorted({label for label, _ in written}))
    elif most >= _MOST_CLASSES:
        place = written[indices.index(most)][1]
        raise UserError(
            f"{source}, {place}: label {most} would be that of the last of {most + 1:,} classes; "
            "labels are names, or indices from 0"
        )
    else:
        names = tuple(map(str, range(most + 1)))
    by_name = {one_spelling(name): index for index, name in enumerate(names)} | class_ids(names)
    # Where the class "1" is not that of index 1, a list must be of one kind.
    ambiguous = any(label_index(name) not in (None, index) for index, name in enumerate(names))
    others = [
        (label, place)
        for (label, place), index in zip(written, indices, strict=True)
        if index is not None and label not in by_name
    ]
    if ambiguous and others:
        raise UserError(
            f"{source}, {others[0][1]}: label {others[0][0]!r} is none of the classes "
            f"({shortened(names)}); as they are numbers, it is not taken for an index"
        )

    def to_index(label):
        if label in by_name:
            return by_name[label], None
        value = label_index(label)
        if value is None:
            if class_names is None:
                return None, f"label {label!r} is not an integer, as other labels of the list are"
            meant = [name for name in names if loose_spelling(name) == loose_spelling(label)]
            named = ", ".join(map(repr, meant)) or shortened(names)
            return None, f"label {label!r} is not one of the classes ({named})"
        if not 0 <= value < len(names):
            return None, f"label {value} is outside 0 to {len(names) - 1}"
        return value, None

    return to_index, names
