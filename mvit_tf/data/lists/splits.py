"""Which videos are held out for validation."""

import numpy as np

from mvit_tf.data.lists.class_names import shortened
from mvit_tf.errors import UserError

_NAMED = 3


def split_validation(video_list, fraction, seed):
    """Sets a share of every class aside for validation.

    Each class gives ``round(fraction * videos)``, at least one where it has two or more and
    never its last one, so a class of a single video stays in training. Where the videos have
    groups, whole groups change sides, in a random order, as long as that brings the classes
    nearer to those numbers, and at least one; a class of a single group stays in training. So do
    single videos of a multi-label list, where those without a label count as a class.

    Args:
        video_list: VideoList.
        fraction: float between 0 and 1, exclusive.
        seed: int >= 0. The same seed gives the same split.

    Returns:
        (train, validation), two VideoLists in the order of `video_list`.

    Raises:
        UserError: `fraction` out of range, or no class with two videos, or groups, to part.
    """
    if not 0 < fraction < 1:
        raise UserError(f"the validation share must lie between 0 and 1, not {fraction}")
    matrix = video_list.label_matrix()
    if video_list.multi_label:
        matrix = np.column_stack([matrix, ~matrix.any(axis=1)])
    counts = matrix.sum(axis=0)
    wanted = np.minimum(np.maximum(np.round(fraction * counts).astype(int), 1), counts - 1)
    if video_list.groups is not None:
        what, chosen = "groups", _choose_groups(matrix, video_list.groups, wanted, seed)
    elif video_list.multi_label:
        what, chosen = "videos", _choose_groups(matrix, range(len(matrix)), wanted, seed)
    else:
        labels = np.asarray(video_list.labels)
        what, chosen = "videos", _choose_videos(labels, wanted, seed)
    if not chosen.any():
        names = sorted(set(video_list.groups or ()))
        known = f" (there are {len(names)}: {shortened(names, _NAMED)})" if names else ""
        other = "take another data.group_by, or " if names else ""
        raise UserError(
            f"no class has two {what}{known}, so none can be set aside for validation; {other}"
            "give a validation list of its own"
        )
    return video_list.subset(np.flatnonzero(~chosen)), video_list.subset(np.flatnonzero(chosen))


def _choose_videos(labels, wanted, seed):
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(label),)))
        chosen[rng.permutation(np.flatnonzero(labels == label))[: wanted[label]]] = True
    return chosen


def _choose_groups(matrix, groups, wanted, seed):
    names, of_video = np.unique(groups, return_inverse=True)
    # Classes of each group, and the videos of each there; a whole table would not fit.
    videos, labels = np.nonzero(matrix)
    pairs, counts = np.unique(of_video[videos] * len(wanted) + labels, return_counts=True)
    of_group, classes = np.divmod(pairs, len(wanted))
    starts = np.searchsorted(of_group, np.arange(len(names) + 1))
    left, taken = matrix.sum(axis=0), np.zeros(len(wanted), int)
    weight = 1 / np.maximum(wanted, 1)
    chosen = np.zeros(len(names), bool)
    order = np.random.default_rng(seed).permutation(len(names))
    for group in order:
        part = slice(starts[group], starts[group + 1])
        own, count = classes[part], counts[part]
        lacking = wanted[own] - taken[own]
        nearer = (np.abs(lacking - count) - np.abs(lacking)) @ weight[own] < 0
        if nearer and np.all(left[own] > count):
            chosen[group] = True
            taken[own] += count
            left[own] -= count
    possible = order[~np.isin(order, of_group[left[classes] <= counts])]
    if not chosen.any() and len(possible):
        # Every group is far larger than the share: the smallest is held out all the same.
        sizes = np.bincount(of_group, counts * weight[classes])
        chosen[possible[np.argmin(sizes[possible])]] = True
    return chosen[of_video]
