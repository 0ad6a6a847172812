"""What is worth saying of a set of videos before anything is learnt from it."""

import collections

import numpy as np

from mvit_tf.data.lists.class_names import shortened
from mvit_tf.data.lists.content import copies_between
from mvit_tf.errors import UserError

# A class with fewer videos than this, or than a tenth of the median class, has few; one with
# more than ten times the median has very many.
_FEW = 5
_FACTOR = 10
_NAMED = 3
# Ends of segments are often given in whole seconds.
_ROUNDED = 1.0


def refuse_one_class(video_list, source):
    """Refuses videos among which there is nothing to tell apart.

    Raises:
        UserError: all videos of `source` are of one class, or of the same classes.
    """
    if video_list.multi_label:
        matrix = video_list.label_matrix()
        if len(matrix) and (matrix == matrix[0]).all():
            raise UserError(
                f"{source}: all {len(matrix)} videos have the same labels: there is nothing to "
                "tell apart; add videos with others"
            )
        return
    present = np.flatnonzero(video_list.videos_per_class())
    if len(present) == 1:
        raise UserError(
            f"{source} holds videos of one class only, {video_list.class_names[present[0]]!r}: "
            "there is nothing to tell apart; add videos of at least one other class"
        )


def balance(video_list):
    """One line: how many videos the classes have, and how many labels the videos."""
    line = _videos_of_classes(video_list)
    if not video_list.multi_label:
        return line
    per_video = video_list.label_matrix().sum(axis=1)
    unlabelled = np.count_nonzero(per_video == 0)
    return f"{line}; {per_video.mean():.1f} labels a video, {unlabelled:,} videos without"


def _videos_of_classes(video_list):
    counts = video_list.videos_per_class()
    order = np.argsort(-counts, kind="stable")
    if len(counts) <= 2 * _NAMED:
        return ", ".join(f"{video_list.class_names[i]} {counts[i]:,}" for i in order)
    most, least = order[0], order[-1]
    return (
        f"{counts[least]:,} ({video_list.class_names[least]}) to {counts[most]:,} "
        f"({video_list.class_names[most]}) videos a class, median {np.median(counts):,.0f}"
    )


def class_warnings(video_list):
    """Lines about the classes with no, few or very many videos."""
    counts = video_list.videos_per_class()
    present = counts[counts > 0]
    median = np.median(present) if len(present) else 0
    empty, few = counts == 0, (counts > 0) & (counts < max(_FEW, median / _FACTOR))
    lines = []
    for chosen, what in (
        (empty, "no video"),
        (few, f"fewer than {max(_FEW, median / _FACTOR):,.0f} videos"),
        (counts > _FACTOR * median, f"more than {_FACTOR} times the median of {median:,.0f}"),
    ):
        names = [f"{video_list.class_names[i]!r}" for i in np.flatnonzero(chosen)]
        if names:
            lines.append(f"{len(names)} of {len(counts)} classes with {what}: {shortened(names)}")
    numbered = video_list.class_names == tuple(map(str, range(len(counts))))
    if numbered and len(counts) > 1 and empty[0] and not empty[1:].any():
        lines.append("labels count from 0, but the smallest here is 1")
    return lines


def passed_over(video_list):
    """One line about what lies beside the videos and is none; None where nothing does."""
    if not video_list.passed_over:
        return None
    kinds = collections.Counter(reason for _, reason in video_list.passed_over).most_common()
    counted = ", ".join(f"{count} {reason}" for reason, count in kinds)
    return (
        f"{len(video_list.passed_over)} entries beside the videos ({counted}); "
        f"first: {video_list.passed_over[0][0]}; `mvit check-data` names all"
    )


def on_both_sides(train, validation):
    """Lines about what lies on both sides of a split, so that the scores flatter."""
    return files_on_both_sides(train, validation) + groups_on_both_sides(train, validation)


def files_on_both_sides(train, validation):
    """A line about the files on both sides, by name or by content, if there are any."""
    named = sorted(set(train.paths).intersection(validation.paths))
    named += [f"{a} = {b}" for a, b in copies_between(train.paths, validation.paths)]
    if not named:
        return []
    return [f"{len(named)} files are in training and in validation: {shortened(named, _NAMED)}"]


def groups_on_both_sides(train, validation):
    """A line about the groups on both sides, if there are any."""
    both = sorted(set(train.groups or ()) & set(validation.groups or ()))
    if not both:
        return []
    return [f"{len(both)} groups are in training and in validation: {shortened(both, _NAMED)}"]


def about_lengths(videos, lengths, clip_seconds):
    """(mistakes, warnings) about how long the videos and segments are, a line each.

    Args:
        videos: VideoList.
        lengths: dict path -> seconds, of the files that can be decoded.
        clip_seconds: float, of a clip; or None.
    """
    outside, beyond, short = [], [], []
    for index, path in enumerate(videos.paths):
        if path not in lengths:
            continue
        start, end = videos.segment(index) or (0.0, lengths[path])
        if start >= lengths[path]:
            outside.append(f"{videos.name(index)} of {lengths[path]:.2f} s")
            continue
        if end > lengths[path] + _ROUNDED:
            beyond.append(f"{videos.name(index)} of {lengths[path]:.2f} s")
        if clip_seconds is not None and min(end, lengths[path]) - start < clip_seconds:
            short.append(videos.name(index))
    mistakes, warnings = [], []
    if outside:
        mistakes.append(
            f"{len(outside)} segments begin after the end of their video: "
            f"{shortened(outside, _NAMED)}"
        )
    if beyond:
        warnings.append(
            f"{len(beyond)} segments end after the end of their video: {shortened(beyond, _NAMED)}"
        )
    if short:
        warnings.append(
            f"{len(short)} videos are shorter than a clip of {clip_seconds:g} s: "
            f"{shortened(short, _NAMED)}; data.short_videos says what becomes of them"
        )
    return mistakes, warnings


def not_validated(train, validation):
    """Lines about classes that validation says nothing of."""
    lacking = np.flatnonzero((train.videos_per_class() > 0) & (validation.videos_per_class() == 0))
    if not len(lacking):
        return []
    names = [repr(train.class_names[i]) for i in lacking]
    return [
        f"{len(names)} of {train.num_classes} classes with no video for validation: "
        f"{shortened(names)}"
    ]


def remarks(listed, train, validation, *, look_into_files=True):
    """What to say at the start of a training.

    Args:
        listed: VideoList, as it was read.
        train, validation: VideoLists, what became of it; `validation` may be None.
        look_into_files: bool. Look for copies on both sides, which takes the size of each file.

    Returns:
        (list of lines with a word in front, list of warnings).
    """
    skipped = [passed_over(listed)]
    warnings = [*listed.notes, *class_warnings(train)]
    if validation is not None:
        skipped.append(passed_over(validation))
        warnings += [note for note in validation.notes if note not in listed.notes]
        warnings += groups_on_both_sides(train, validation) + not_validated(train, validation)
        if look_into_files:
            warnings += files_on_both_sides(train, validation)
    told = [f"passed over {line}" for line in skipped if line is not None]
    if train.num_classes:
        told.insert(0, f"classes     {balance(train)}")
    return told, warnings
