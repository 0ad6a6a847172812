"""Which video of a list goes into which file of a record set: a function of the list alone."""

import dataclasses
import functools
import os

import numpy as np

from mvit_tf.data.lists.video_list import VideoList
from mvit_tf.data.records.encoding import Encoding
from mvit_tf.data.records.manifest import SUFFIX
from mvit_tf.data.records.storage import is_remote, within
from mvit_tf.errors import UserError
from mvit_tf.urls import absolute, is_url, parent, without_secrets

# Videos in a file, where nothing else is asked for: some hundred MB of JPEG frames.
_VIDEOS_PER_SHARD = 64
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `mvit prepare` is to make.

    Args:
        videos: VideoList.
        sources: tuple of str, what each video is called in the set.
        output: str, the folder.
        name: str, what the names of the files begin with.
        encoding: Encoding.
        num_shards: int.
    """

    videos: VideoList
    sources: tuple[str, ...]
    output: str
    name: str
    encoding: Encoding
    num_shards: int

    @functools.cached_property
    def members(self):
        """tuple of a tuple for each file: the indices of its videos, in the order of the file.

        The list is shuffled, so that a file holds videos of all classes.
        """
        order = np.random.default_rng(0).permutation(len(self.videos)).tolist()
        return tuple(tuple(order[shard :: self.num_shards]) for shard in range(self.num_shards))

    def shard_name(self, shard):
        """The name of a file."""
        return f"{self.name}-{shard:05d}-of-{self.num_shards:05d}.tfrecord"

    @property
    def manifest_path(self):
        """Where the manifest is to be."""
        return within(self.output, self.name + SUFFIX)

    @property
    def options(self):
        """What the files depend on beside the list, as plain data."""
        encoding = dataclasses.asdict(self.encoding)
        return {**encoding, "shards": self.num_shards, "multi_label": self.videos.multi_label}

    def listed(self):
        """(source, segment) -> `written_labels`, of every video."""
        videos = self.videos
        return {
            (source, videos.segment(index)): written_labels(
                videos.labels_of(index), self.intervals_of(index), videos.class_names
            )
            for index, source in enumerate(self.sources)
        }

    def intervals_of(self, index):
        """The intervals of video `index`, or None."""
        return None if self.videos.intervals is None else self.videos.intervals[index]


def written_labels(labels, intervals, class_names):
    """Names of classes, and names with times, as plain data to be compared."""
    timed = [[class_names[label], *times] for label, *times in intervals or ()]
    return [*(class_names[label] for label in labels), *timed]


def make_plan(videos, source, output, *, name, encoding, root=None, num_shards=None):
    """The Plan of a record set.

    Args:
        videos: VideoList.
        source: str, the folder or list that it was read from; what lies below its folder is
            called by its relative path, so that the set does not depend on where that is.
        output, name: see `Plan`.
        encoding: Encoding.
        root: str, the folder that relative paths start from, where it is not that of the list.
        num_shards: int, or None for about one for 64 videos.

    Raises:
        UserError: no videos, more files than videos, a bad name, or a folder within the source.
    """
    if not len(videos):
        raise UserError(f"{source} holds no videos")
    if (
        not name
        or os.path.basename(name) != name
        or name.startswith(".")
        or set(name) & set("*?[#")
    ):
        raise UserError(f"name={name!r} must be the beginning of a file's name, without / * ? [ #")
    if num_shards is None:
        num_shards = -(-len(videos) // _VIDEOS_PER_SHARD)
    if not 1 <= num_shards <= min(len(videos), 99_999):
        raise UserError(
            f"shards={num_shards} must be from 1 to {min(len(videos), 99_999)}, as there are "
            f"{len(videos)} videos"
        )
    base = absolute(source)
    if is_url(base) or not os.path.isdir(base):
        base = parent(base)
    elif not is_remote(output) and (os.path.abspath(output) + os.sep).startswith(base + os.sep):
        raise UserError(f"{output} is within {source}, where it would be taken for a class folder")
    below = base if root is None else absolute(root)
    sources = tuple(_below(below, path) for path in videos.paths)
    return Plan(videos, sources, output, name, encoding, num_shards)


def differences(plan, options, class_names, listed):
    """What is not as it was, in words; empty where all is.

    Args:
        plan: Plan of today.
        options, class_names, listed: those that the files there were made with, see `Plan`.
    """
    changed = [
        f"{key}={plan.options[key]} (was {options.get(key)})"
        for key in plan.options
        if plan.options[key] != options.get(key)
    ]
    if tuple(class_names) != plan.videos.class_names:
        changed.append("the classes")
    now = plan.listed()
    both = now.keys() & listed.keys()
    for keys, what in (
        (now.keys() - listed.keys(), "are new"),
        (listed.keys() - now.keys(), "are gone"),
        ({key for key in both if now[key] != listed[key]}, "have other labels"),
    ):
        if keys:
            named = sorted(source for source, _ in keys)
            more = ", ..." if len(named) > _NAMED else ""
            changed.append(f"{len(keys)} videos {what}: {', '.join(named[:_NAMED])}{more}")
    return changed


def _below(base, path):
    # What a set says is for all who get it.
    base, full = without_secrets(base).rstrip("/"), without_secrets(absolute(path))
    if full.startswith(base + "/"):
        return full[len(base) + 1 :]
    return full if is_url(full) else path
