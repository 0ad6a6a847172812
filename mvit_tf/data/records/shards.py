"""One file of a record set, written whole or not at all, and what is known of it afterwards."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

from mvit_tf.data.lists.content import of_all, size_of
from mvit_tf.data.records import storage
from mvit_tf.data.records.encoding import encode_video, record_data
from mvit_tf.data.records.framing import framed, framed_size
from mvit_tf.data.records.manifest import Failure, Record, Shard
from mvit_tf.data.video.decoding import DecodeError
from mvit_tf.files import TEMPORARY_PREFIX, remove_unfinished
from mvit_tf.urls import is_url

_READ_BYTES = 2**22


class Unfinished:
    """The folder that keeps what is known of finished files until the manifest is written.

    Args:
        plan: Plan.
    """

    def __init__(self, plan):
        self._plan = plan
        self.folder = storage.within(plan.output, f".{plan.name}-unfinished")

    def plan_made(self):
        """(options, class_names, listed) of the plan that was begun here, or None."""
        found = _read_json(storage.within(self.folder, "plan.json"))
        if found is None:
            return None
        listed = {
            (source, None if segment is None else tuple(segment)): labels
            for source, segment, labels in found["videos"]
        }
        return found["options"], tuple(found["classes"]), listed

    def begin(self):
        """Writes down what is begun, and removes what a killed run left half written."""
        if not storage.is_remote(self.folder):
            remove_unfinished(Path(self.folder))
            self._remove_half_written()
        content = {
            "options": self._plan.options,
            "classes": list(self._plan.videos.class_names),
            "videos": [[*key, labels] for key, labels in self._plan.listed().items()],
        }
        storage.write_text(storage.within(self.folder, "plan.json"), json.dumps(content))

    def shard(self, number):
        """The Shard that was finished, or None: then it is not, or one of its videos changed."""
        found = _read_json(self._facts_of(number))
        if found is None or found["sizes"] != self._sizes(number):
            return None
        shard = Shard.from_dict(found["shard"])
        if shard.failures and any(map(is_url, self._paths(number))):
            return None  # A server that refused a video of a known size may give it now.
        return shard

    def finish(self, number, shard):
        """Notes that a file is complete."""
        content = {"shard": shard.to_dict(), "sizes": self._sizes(number)}
        storage.write_text(self._facts_of(number), json.dumps(content))

    def remove(self):
        """Removes the folder, when the manifest is there."""
        storage.remove_folder(self.folder)

    def remove_if_empty(self):
        """Removes the folder where nothing was begun."""
        with contextlib.suppress(OSError):
            os.rmdir(self.folder)

    def _remove_half_written(self):
        """Removes temporary files of this set; another may be made in the same folder."""
        name = re.escape(self._plan.name)
        file = rf"{name}-([0-9]+-of-[0-9]+\.tfrecord|manifest\.json)"
        form = rf"{re.escape(TEMPORARY_PREFIX)}[0-9]+\.{file}"
        for path in Path(self._plan.output).iterdir():
            if re.fullmatch(form, path.name):
                path.unlink()

    def _facts_of(self, number):
        return storage.within(self.folder, f"{self._plan.shard_name(number)}.json")

    def _paths(self, number):
        return [self._plan.videos.paths[index] for index in self._plan.members[number]]

    def _sizes(self, number):
        """Bytes of each video of a file: one that was mended is to be read again."""
        paths = self._paths(number)
        sizes = of_all(size_of, paths)
        return [sizes[path] for path in paths]


def is_intact(plan, shard):
    """Whether a file is there and has the checksum that it was written with."""
    digest, size = hashlib.sha256(), 0
    try:
        with storage.open_file(storage.within(plan.output, shard.file)) as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
                size += len(piece)
    except OSError:
        return False
    return size == shard.size and digest.hexdigest() == shard.sha256


def encode_member(plan, index, run):
    """The data of the record of a video, with its facts.

    Args:
        plan: Plan.
        index: int, of the video.
        run: function of (generator function, path, *args) that runs it, as `DecodeWorkers.run`.

    Returns:
        (VideoFacts, bytes), or the DecodeError that the video ended in.
    """
    videos, encoding = plan.videos, plan.encoding
    try:
        facts, *parts = run(encode_video, videos.paths[index], videos.segment(index), encoding)
        parts = [piece for part in parts for piece in part]
        labels = {label: videos.class_names[label] for label in videos.labels_of(index)}
        intervals = plan.intervals_of(index)
        source = plan.sources[index]
        return facts, record_data(facts, parts, encoding, labels, source, intervals)
    except DecodeError as error:
        return error


def write_shard(plan, number, encoded):
    """Writes a file of the set under a temporary name, and renames it when it is complete.

    Args:
        plan: Plan.
        number: int, which file.
        encoded: iterable of what `encode_member` gives of its videos, in their order.

    Returns:
        Shard.

    Raises:
        OSError: it cannot be written.
    """
    digest, records, failures, offset = hashlib.sha256(), [], [], 0
    name = plan.shard_name(number)

    def fill(temporary):
        nonlocal offset
        with open(temporary, "wb") as file:
            for index, made in zip(plan.members[number], encoded, strict=True):
                known = plan.sources[index], plan.videos.segment(index)
                labels, intervals = plan.videos.labels_of(index), plan.intervals_of(index)
                if isinstance(made, DecodeError):
                    failures.append(Failure(*known, labels, intervals, made.outcome, made.detail))
                    continue
                facts, data = made
                content = framed(data)
                file.write(content)
                digest.update(content)
                records.append(
                    Record(
                        offset, len(data), labels, facts.fps, facts.num_frames, *known, intervals
                    )
                )
                offset += framed_size(len(data))

    storage.write_atomically(storage.within(plan.output, name), fill)
    return Shard(name, offset, digest.hexdigest(), tuple(records), tuple(failures))


def _read_json(path):
    try:
        with storage.open_file(path) as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None
