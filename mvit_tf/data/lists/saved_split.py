"""The file that keeps which videos were trained on and which were held out."""

import csv
import io
import json

from mvit_tf.data.lists.content import checksum, modified_at, of_all, size_of
from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.errors import UserError
from mvit_tf.files import write_atomically
from mvit_tf.remote_path import as_path
from mvit_tf.urls import absolute

_LABEL, _LABELS = "label", "labels"
_COLUMNS = ("path", _LABEL, "start", "end", "group", "split", "size", "checksum", "modified")
_TRAIN, _VALIDATION = "train", "validation"
_NAMED = 3
# Of more videos to train on no file is opened: that takes longer than a person waits.
_MOST_OPENED = 20_000


def save_split(path, train, validation):
    """Writes both sides as a CSV with the columns path, label (the class name), start, end, group,
    split, size, checksum and modified. Of multi-label lists the column `labels`, a JSON array of
    class names, takes the place of `label`; their intervals are not kept, as validation has no use
    for them.

    Files for validation get a checksum (`content.checksum`), and so do files of this machine to
    train on, unless they are more than 20,000.

    Args:
        path: of the file.
        train: VideoList.
        validation: VideoList, or None.
    """

    columns = [_LABELS if c == _LABEL and train.multi_label else c for c in _COLUMNS]

    def fill(temporary):
        # Names that are not UTF-8 keep their bytes.
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for split, videos in ((_TRAIN, train), (_VALIDATION, validation)):
                if videos is not None:
                    writer.writerows(_rows(split, videos))

    write_atomically(as_path(path), fill)


class SavedSplit:
    """What `save_split` wrote.

    Args:
        path: of the file.
        class_names: tuple of str, the classes in index order.

    Raises:
        UserError: not such a file.
    """

    def __init__(self, path, class_names):
        self.path = path
        try:
            text = as_path(path).read_bytes().decode("utf-8", errors="surrogateescape")
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            self._rows = {_key(row): row for row in rows}
            held_out = [row for row in rows if row["split"] == _VALIDATION]
            self.validation = VideoList(
                paths=tuple(row["path"] for row in held_out),
                labels=tuple(_label(row, class_names) for row in held_out),
                class_names=tuple(class_names),
                segments=_optional(_segment(row) for row in held_out),
                groups=_optional(row["group"] or None for row in held_out),
            )
        except (csv.Error, KeyError, ValueError) as error:
            raise UserError(f"{path} is damaged: {error}; restore it from a copy") from None

    def check_held_out(self):
        """Compares the held-out files with what they were.

        Raises:
            UserError: some are gone or hold something else; the first are named.
        """
        changed = []
        # What was missing then may be there now.
        before = {
            row["path"]: row["checksum"]
            for row in self._rows.values()
            if row["split"] == _VALIDATION and row["checksum"]
        }
        for path, now in of_all(checksum, before).items():
            if now != before[path]:
                changed.append(f"{absolute(path)} ({'changed' if now else 'gone'})")
        if changed:
            raise UserError(
                f"{len(changed)} videos held out in {self.path} are no longer what they were: "
                f"{_first(changed)}; put them back, or evaluate on a list of its own with "
                "data.validation"
            )

    def rest_of(self, videos):
        """Those of `videos` to train on: neither held out nor of a file or group that was.

        Raises:
            UserError: a held-out video has another label now.
        """
        relabelled = [
            f"{row['path']} ({_label_text(row)} there, {label} now)"
            for row, label in self._relabelled(videos)
            if row["split"] == _VALIDATION
        ]
        if relabelled:
            raise UserError(
                f"{len(relabelled)} videos held out in {self.path} have another label now: "
                f"{_first(relabelled)}; take the change back, or train in another --model_dir"
            )
        held_out = [row for row in self._rows.values() if row["split"] == _VALIDATION]
        files = {_file(row["path"]) for row in held_out}
        groups = {row["group"] for row in held_out} - {""}
        return videos.subset(
            [
                index
                for index, path in enumerate(videos.paths)
                if _file(path) not in files
                and (videos.groups is None or videos.groups[index] not in groups)
            ]
        )

    def _relabelled(self, videos):
        """Yields (row, label now) of the videos whose label is another one than it was."""
        for index in range(len(videos)):
            row, label = self._rows.get(_key_of(videos, index)), _label_now(videos, index)
            if row and _label_text(row) != label:
                yield row, label

    def changes_of_training(self, train):
        """Lines about how the videos to train on differ from what they were."""
        order = dict.fromkeys(_key_of(train, index) for index in range(len(train)))
        now = set(order)
        before = {key: row for key, row in self._rows.items() if row["split"] == _TRAIN}
        kept = before.keys() & now
        sizes = of_all(size_of, (path for path, _ in kept))
        resized = {key for key in kept if before[key]["size"] != _written(sizes[key[0]])}
        # Only what was written since is opened: a copy is as good as what it is of.
        times = of_all(modified_at, (path for path, _ in kept))
        touched = {
            key
            for key in kept - resized
            if before[key]["checksum"] and before[key].get("modified") != _written(times[key[0]])
        }
        checksums = of_all(checksum, (path for path, _ in touched))
        rewritten = {key for key in touched if before[key]["checksum"] != checksums[key[0]]}
        relabelled = {_key(row) for row, _ in self._relabelled(train)}
        changes = [
            f"{len(keys)} videos to train on {what}: {_first(sorted({path for path, _ in keys}))}"
            for keys, what in (
                (now - before.keys(), "are new"),
                (before.keys() - now, "are gone"),
                (resized, "have another size"),
                (rewritten, "have other content"),
                (relabelled, "have another label"),
            )
            if keys
        ]
        # An epoch permutes indices: in another order it takes other videos at the same step.
        if not changes and list(order) != list(before):
            changes.append("the videos to train on are in another order")
        return changes


def _rows(split, videos):
    sizes = of_all(size_of, videos.paths)
    times = of_all(modified_at, videos.paths)
    opened = videos.paths
    if split == _TRAIN:
        # Those without a time are remote, or records.
        opened = [path for path in opened if times[path] is not None]
        opened = opened if len(opened) <= _MOST_OPENED else []
    checksums = of_all(checksum, opened)
    for index, path in enumerate(videos.paths):
        start, end = videos.segment(index) or ("", "")
        yield (
            path,
            _label_now(videos, index),
            start,
            end,
            "" if videos.groups is None else videos.groups[index],
            split,
            sizes[path],
            checksums.get(path),
            times[path],
        )


def _label_now(videos, index):
    """The label of a video as it is written."""
    names = [videos.class_names[label] for label in videos.labels_of(index)]
    return json.dumps(names, ensure_ascii=False) if videos.multi_label else names[0]


def _label_text(row):
    return row[_LABELS] if _LABELS in row else row[_LABEL]


def _label(row, class_names):
    if _LABELS not in row:
        return class_names.index(row[_LABEL])
    return tuple(class_names.index(name) for name in json.loads(row[_LABELS]))


def _segment(row):
    return (float(row["start"]), float(row["end"])) if row["start"] else None


def _key(row):
    return _file(row["path"]), _segment(row)


def _key_of(videos, index):
    return _file(videos.paths[index]), videos.segment(index)


def _file(path):
    """A file's one name, however a list spells it."""
    return absolute(path)


def _optional(values):
    """The values, or None where all are."""
    values = tuple(values)
    return values if any(value is not None for value in values) else None


def _written(size):
    """As the CSV has it."""
    return "" if size is None else str(size)


def _first(paths):
    return ", ".join(paths[:_NAMED]) + (", ..." if len(paths) > _NAMED else "")
