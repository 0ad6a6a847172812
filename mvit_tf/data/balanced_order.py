"""Training epochs that show each class equally often."""

import numpy as np

# Key of the random stream of a seed after those of `pipeline` and of `mixing`.
_BALANCED = 4


def balanced_order(video_list, seed, epoch):
    """As many videos as the list has, drawn so that each class comes equally often.

    The epoch is cut into rounds, each of which draws one video for every class that has any, in
    random order; the last may be incomplete. A class goes through its videos in random order
    before one comes again, from epoch to epoch. So the videos of small classes come several times
    an epoch, and of a large class an epoch shows a part. In a multi-label list a video counts for
    each class that it is drawn for, and those without a label are a class of their own.

    Args:
        video_list: VideoList.
        seed: int >= 0.
        epoch: int. The order is a pure function of the list, the seed and the epoch.

    Returns:
        int64 array (len(video_list),) of indices of videos.
    """
    # Of each label its videos, and those without any as one more; a whole table would not fit.
    pairs = np.array(
        sorted(
            (label, video)
            for video in range(len(video_list))
            for label in set(video_list.labels_of(video)) or (video_list.num_classes,)
        )
    )
    members = np.split(pairs[:, 1], np.flatnonzero(np.diff(pairs[:, 0])) + 1)
    rounds = -(-len(video_list) // len(members))
    drawn = np.stack(
        [
            _cycle(videos, epoch * rounds, rounds, (seed, number))
            for number, videos in enumerate(members)
        ],
        axis=1,
    )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_BALANCED, epoch)))
    return rng.permuted(drawn, axis=1).reshape(-1)[: len(video_list)]


def _cycle(videos, start, count, key):
    """`count` videos from place `start` of one random order of them after the other."""
    seed, number = key
    first, last = start // len(videos), (start + count - 1) // len(videos)
    orders = [
        np.random.default_rng(
            np.random.SeedSequence(seed, spawn_key=(_BALANCED, number, turn))
        ).permutation(videos)
        for turn in range(first, last + 1)
    ]
    skipped = start - first * len(videos)
    return np.concatenate(orders)[skipped : skipped + count]
