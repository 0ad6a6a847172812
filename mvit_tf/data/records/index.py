"""Every record of a set with its label: the list of videos that a record set is."""

import functools
import math
import os

from mvit_tf.data.lists.class_names import one_spelling
from mvit_tf.data.lists.entries import Entry, Listing
from mvit_tf.data.records import examples, framing, storage
from mvit_tf.data.records.manifest import SUFFIX, read_manifest
from mvit_tf.data.records.reading import is_record_file, parse_record_name, record_name
from mvit_tf.errors import UserError


def record_files(source):
    """The files of a record set, or None where `source` is none.

    Args:
        source: str: a folder with a manifest, a manifest, a file of records, or a pattern
            such as "train-*.tfrecord".

    Returns:
        list of str, or None.

    Raises:
        UserError: several sets in one folder, a set that is not finished, or a pattern that no
            file matches.
    """
    if source.startswith(("http://", "https://")):  # In which "?" is no pattern.
        return [source] if is_record_file(source) else None
    if source.endswith(SUFFIX):
        return _files_of(source)
    is_pattern = bool(set(source) & set("*?[")) and not os.path.exists(source)
    if is_pattern:
        try:
            files = [path for path in storage.matching(source) if is_record_file(path)]
        except OSError as error:
            raise UserError(f"{source} cannot be read: {error}") from None
        if not files:
            raise UserError(f"{source}: no file of records matches")
        return files
    if is_record_file(source) and not os.path.isdir(source):
        return [source]
    try:
        found = storage.listed(source)
    except OSError:  # Not by these means; another reader may know more.
        return None
    manifests = [path for path in found if path.endswith(SUFFIX)]
    if len(manifests) > 1:
        named = ", ".join(os.path.basename(path) for path in manifests)
        raise UserError(f"{source} holds several record sets; give the manifest of one: {named}")
    if manifests:
        return _files_of(manifests[0])
    if any(map(is_record_file, found)) and not any(map(_is_class_folder, found)):
        raise UserError(
            f"{source}: files of records without a manifest; run `mvit prepare` again if it was "
            f"interrupted, or give them by a pattern: '{storage.within(source, '*.tfrecord')}'"
        )
    return None


def read_records(source, files, multi_label=False):
    """The records of a set, with their labels.

    What a manifest beside the files says of them is taken for granted; of other files, the head
    of every record is read.

    Args:
        source: str, what the user gave.
        files: list of str, as `record_files` gives them.
        multi_label: bool. A record may have any number of labels.

    Returns:
        Listing, in the order of the files. Of the classes, the names are those of the manifest,
        or those that the records themselves say.

    Raises:
        UserError: a file that cannot be read, or, but for `multi_label`, a record without exactly
            one label.
    """
    known = _known_shards(files)
    if all(file in known for file in files):
        names = {manifest.class_names for manifest, _ in known.values()}
        if len(names) == 1:
            (class_names,) = names
            if not multi_label and any(one.options["multi_label"] for one, _ in known.values()):
                raise UserError(
                    f"{source}: its videos have any number of labels; set data.multi_label=true"
                )
            return _listing_of_manifests(files, known, class_names)
    return _listing_of_heads(source, files, multi_label)


def record_content(path):
    """What tells the record named `path` from others, without reading all of it.

    On another machine, it is what the manifest says: asking for each record would take hours.

    Returns:
        (bytes of its data, text of its checksum); (None, None) where it cannot be read.
    """
    file, offset = parse_record_name(path)
    try:
        if storage.is_remote(file):
            found = _remote_records(os.path.dirname(file)).get(path)
            if found is not None:
                return found
        with storage.open_file(file) as opened:
            length, crc = framing.stored_crc(opened, offset)
    except (OSError, framing.CorruptRecord, UserError):
        return None, None
    return length, f"crc32c-{length}-{crc:08x}"


@functools.lru_cache(maxsize=4)
def _remote_records(folder):
    """Name of a record -> (bytes of its data, checksum), of all manifests in a folder."""
    return {
        record_name(storage.within(folder, shard.file), record.offset): (
            record.length,
            f"sha256-{shard.sha256}-{record.offset}",
        )
        for path in storage.listed(folder)
        if path.endswith(SUFFIX)
        for shard in read_manifest(path).shards
        for record in shard.records
    }


def _is_class_folder(path):
    # On other machines folders are listed with a slash.
    return (path.endswith("/") or os.path.isdir(path)) and not os.path.basename(path).startswith(
        "."
    )


def _files_of(manifest):
    folder = os.path.dirname(manifest)
    return [storage.within(folder, shard.file) for shard in read_manifest(manifest).shards]


def _known_shards(files):
    """File -> (Manifest, Shard), of the files that a manifest beside them names."""
    known = {}
    for folder in dict.fromkeys(os.path.dirname(file) for file in files):
        for path in storage.listed(folder):
            if not path.endswith(SUFFIX):
                continue
            manifest = read_manifest(path)
            for shard in manifest.shards:
                known[storage.within(folder, shard.file)] = manifest, shard
    return known


def _listing_of_manifests(files, known, class_names):
    entries = []
    for file in files:
        manifest, shard = known[file]
        whole_videos = manifest.options["frames"] == "video"
        for record in shard.records:
            # The frames of a record are those of the segment only.
            start = 0.0 if whole_videos or record.segment is None else record.segment[0]
            label, intervals = _labels(record.labels, record.intervals, class_names, start)
            entries.append(
                Entry(
                    record_name(file, record.offset),
                    label if manifest.options["multi_label"] else label[0],
                    f"record at {record.offset} of {os.path.basename(file)}",
                    segment=record.segment if whole_videos else None,
                    source=record.source,
                    intervals=intervals,
                )
            )
    return Listing(entries, class_names=class_names)


def _labels(labels, intervals, class_names, start):
    """(names of labels, times of each or None), the times counted from `start`."""
    if intervals is None:
        return tuple(_label(label, class_names) for label in labels), None
    timed = {label for label, _, _ in intervals}
    always = [(label, -math.inf, math.inf) for label in labels if label not in timed]
    rows = [*intervals, *always]
    times = tuple((begin - start, end - start) for _, begin, end in rows)
    return tuple(_label(label, class_names) for label, _, _ in rows), times


def _listing_of_heads(source, files, multi_label):
    passed_over = []
    heads = [head for file in files for head in read_heads(file, passed_over, multi_label)]
    if not heads:
        reason = f": {passed_over[0][0]}: {passed_over[0][1]}" if passed_over else ""
        raise UserError(f"{source}: no record can be read{reason}")
    class_names = _class_names([head for _, head in heads])
    entries = []
    for path, head in heads:
        start = 0.0 if head.segment or head.start is None else head.start
        label, intervals = _labels(head.labels, head.intervals, class_names, start)
        label = label or tuple(map(one_spelling, head.texts))
        entries.append(
            Entry(
                path,
                label if multi_label else label[0],
                path,
                segment=head.segment,
                source=head.source or path,
                intervals=intervals if multi_label else None,
            )
        )
    return Listing(entries, class_names=class_names, passed_over=tuple(passed_over))


def _label(index, class_names):
    named = class_names is not None and 0 <= index < len(class_names)
    return class_names[index] if named else str(index)


def _class_names(heads):
    """The names in index order that the records give their labels; None where they do not."""
    names = {}
    for head in heads:
        if len(head.labels) != len(head.texts):
            return None
        for label, text in zip(head.labels, head.texts, strict=True):
            name = one_spelling(text)
            if names.setdefault(label, name) != name or label < 0:
                return None
    if not names or len(set(names.values())) < len(names):
        return None
    return tuple(names.get(index, str(index)) for index in range(max(names) + 1))


def read_heads(file, passed_over, multi_label=False):
    """What the records of a file say of themselves.

    Args:
        file: str.
        passed_over: list to which (name, reason) of the damaged ones is added.
        multi_label: bool. A record may have any number of labels.

    Returns:
        list of (name, RecordHead).

    Raises:
        UserError: the file cannot be read, or, but for `multi_label`, one has not exactly one
            label.
    """
    heads = []
    try:
        size = storage.size_of(file)
        with storage.open_file(file) as opened:
            try:
                for offset, length, start in framing.walk(opened, size, examples.HEAD_BYTES):
                    path = record_name(file, offset)
                    try:
                        head = _head(path, opened, offset, length, start, multi_label)
                        heads.append((path, head))
                    except (examples.NotASequenceExample, framing.CorruptRecord) as error:
                        passed_over.append((path, f"corrupt_record: {error}"))
            except framing.CorruptRecord as error:
                reason = f"corrupt_record: {error}; nothing after it can be found"
                passed_over.append((record_name(file, error.offset), reason))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
    return heads


def _head(path, opened, offset, length, start, multi_label):
    head = examples.parse_head(opened, offset + framing.HEADER_SIZE, length, start)
    if head is not None and (multi_label or len(head.labels or head.texts) == 1):
        return head
    # The context does not come first, or is damaged, which only the whole record can tell.
    head = examples.head_of(examples.parse(framing.read_record(opened, offset)))
    number = len(head.labels or head.texts)
    if number != 1 and not multi_label:
        raise UserError(
            f"{path}: {number} labels ({examples.LABEL_INDEX} or {examples.LABEL_TEXT[0]}), and a "
            "video has one, unless data.multi_label=true"
        )
    return head
