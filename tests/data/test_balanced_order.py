import collections

import numpy as np

from mvit_tf.data.balanced_order import balanced_order
from mvit_tf.data.lists.video_list import VideoList


def video_list(labels, num_classes):
    paths = tuple(f"{i}.mp4" for i in range(len(labels)))
    return VideoList(paths, tuple(labels), tuple(f"c{i}" for i in range(num_classes)))


def test_each_class_comes_equally_often_and_large_ones_are_gone_through():
    videos = video_list([0] * 40 + [1] * 8 + [3] * 3, 4)  # class 2 has no video
    labels = np.array(videos.labels)
    seen = collections.Counter()
    for epoch in range(5):
        order = balanced_order(videos, 7, epoch)
        assert len(order) == 51
        assert np.bincount(labels[order], minlength=4).tolist() == [17, 17, 0, 17]
        np.testing.assert_array_equal(order, balanced_order(videos, 7, epoch))
        seen.update(order.tolist())
    # 85 draws of each class, however many videos it has, differ by one a video at most.
    for label, times in ((0, {2, 3}), (1, {10, 11}), (3, {28, 29})):
        assert {seen[i] for i in np.flatnonzero(labels == label)} == times
    assert not np.array_equal(balanced_order(videos, 7, 0), balanced_order(videos, 8, 0))
    # Classes alternate: no half of an epoch lacks one.
    assert np.bincount(labels[balanced_order(videos, 7, 0)[:24]]).tolist() == [8, 8, 0, 8]


def test_videos_with_several_labels_are_drawn_for_each_and_those_without_for_none():
    videos = video_list([(0, 1)] * 2 + [(0,)] * 9 + [()] * 9, 2)
    order = balanced_order(videos, 0, 0)
    counts = np.bincount(order, minlength=20)
    assert counts[11:].sum() in (6, 7)  # a third for no label
    assert counts[:2].sum() >= 6  # class 1 has these alone
    assert counts.sum() == 20
