"""The manifest of a record set: what is in it, of what it was made, and what could not be."""

import dataclasses
import json

from mvit_tf.data.records.storage import open_file, write_text
from mvit_tf.errors import UserError

SUFFIX = "-manifest.json"
FORMAT = "mvit_tf record set, version 1"


@dataclasses.dataclass(frozen=True)
class Record:
    """One record of a shard.

    Args:
        offset: int, where in its file it begins.
        length: int, bytes of its data.
        labels: tuple of int; one, but in a multi-label set.
        fps: float, frames a second.
        num_frames: int.
        source: str, the video that it was made from.
        segment: (start, end) in seconds of the part of that video, or None for all.
        intervals: tuple of (label, start, end), as of `VideoList`, in seconds of that video; None
            where no label has times.
    """

    offset: int
    length: int
    labels: tuple[int, ...]
    fps: float
    num_frames: int
    source: str
    segment: tuple[float, float] | None = None
    intervals: tuple[tuple[int, float, float], ...] | None = None


@dataclasses.dataclass(frozen=True)
class Failure:
    """A video of which there is no record.

    Args:
        source, segment, labels, intervals: as of `Record`.
        outcome, detail: str, as of `DecodeError`.
    """

    source: str
    segment: tuple[float, float] | None
    labels: tuple[int, ...]
    intervals: tuple[tuple[int, float, float], ...] | None
    outcome: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of a record set.

    Args:
        file: str, its name.
        size: int, bytes.
        sha256: str, checksum of all of it in hexadecimal.
        records: tuple of Record, in the order of the file.
        failures: tuple of Failure.
    """

    file: str
    size: int
    sha256: str
    records: tuple[Record, ...]
    failures: tuple[Failure, ...]

    def to_dict(self):
        """The fields as plain data, for JSON."""
        return {
            "file": self.file,
            "size": self.size,
            "sha256": self.sha256,
            "records": [list(dataclasses.astuple(record)) for record in self.records],
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
        }

    @classmethod
    def from_dict(cls, fields):
        """The inverse of `to_dict`."""
        records = [Record(*map(_tuples, row)) for row in fields["records"]]
        failures = [
            Failure(**{key: _tuples(value) for key, value in failure.items()})
            for failure in fields["failures"]
        ]
        return cls(
            fields["file"], fields["size"], fields["sha256"], tuple(records), tuple(failures)
        )


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A whole record set.

    Args:
        options: dict, how it was made.
        class_names: tuple of str, in index order.
        shards: tuple of Shard.
    """

    options: dict
    class_names: tuple[str, ...]
    shards: tuple[Shard, ...]

    def counts(self):
        """dict: how many videos there were, of how many there are records, and frames in them."""
        records = [record for shard in self.shards for record in shard.records]
        failed = sum(len(shard.failures) for shard in self.shards)
        per_class = [0] * len(self.class_names)
        for record in records:
            for label in record.labels:
                per_class[label] += 1
        return {
            "videos": len(records) + failed,
            "records": len(records),
            "failures": failed,
            "frames": sum(record.num_frames for record in records),
            "records_per_class": dict(zip(self.class_names, per_class, strict=True)),
        }


def write_manifest(path, manifest):
    """Writes a manifest as JSON, a shard a line."""
    facts = {
        "format": FORMAT,
        "counts": manifest.counts(),
        "options": manifest.options,
        "classes": list(manifest.class_names),
        "record_fields": [field.name for field in dataclasses.fields(Record)],
    }
    # Names that are not UTF-8 come back from their escapes only where all is escaped.
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
    shards = ",\n".join(json.dumps(shard.to_dict()) for shard in manifest.shards)
    lines.append(f'"shards": [\n{shards}\n]')
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_manifest(path):
    """The Manifest in a file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        with open_file(path) as file:
            fields = json.loads(file.read())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path} is no manifest of a record set: not JSON") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise UserError(f"{path} is no manifest of a record set that this version reads")
    try:
        return Manifest(
            fields["options"],
            tuple(fields["classes"]),
            tuple(Shard.from_dict(shard) for shard in fields["shards"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error!r}; run `mvit prepare` again") from None


def _tuples(value):
    """A value of JSON with tuples for its lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
