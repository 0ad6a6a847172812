"""The videos of a study: made from a seed, or somebody's own."""

import collections
import csv
import dataclasses
import io
import os
from pathlib import Path

from absl import logging

from mvit_tf.data.lists.data_checks import on_both_sides
from mvit_tf.data.lists.splits import split_validation
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.moving_shapes import write_moving_shapes
from mvit_tf.errors import UserError
from mvit_tf.files import remove_unfinished, write_text_atomically
from mvit_tf.studies.study import Study

# Seeds of the videos that are made.
_SEEDS = {"train": 1, "test": 2}


@dataclasses.dataclass(frozen=True)
class StudyVideos:
    """What the runs of a study are trained and scored on.

    Attributes:
        source: folder with the class folders `train/` and `test/`, or a list.
        listed: whether it is a list, whose column "split" says "train" or "test".
        train, test: the videos to train and to score on.
    """

    source: Path
    listed: bool
    train: VideoList
    test: VideoList

    @property
    def num_classes(self) -> int:
        return self.train.num_classes

    @property
    def guessing(self) -> float:
        """Accuracy of always saying the most common class of the videos to score on."""
        return max(collections.Counter(self.test.labels).values()) / len(self.test)

    def training_list(self, share: float, seed: int) -> VideoList:
        """A share of each class's videos to train on.

        Args:
            share: of the videos, above 0, at most 1.
            seed: draws them.

        Raises:
            UserError: no class has two videos, so that none can be left out.
        """
        if share == 1:
            return self.train
        chosen, _ = split_validation(dataclasses.replace(self.train, groups=None), 1 - share, seed)
        return chosen

    def training_keys(self, share: float, seed: int, lists: Path) -> dict:
        """The keys of `data` of a training on a share of each class.

        Args:
            share, seed: of `training_list`, which see.
            lists: folder for the list of a share.
        """
        if share == 1 and self.listed:
            return {"train": str(self.source), "train_split": "train"}
        if share == 1:
            return {"train": str(self.source / "train")}
        path = lists / f"train_{share:g}_seed_{seed}.csv"
        write_text_atomically(path, _as_csv(self.training_list(share, seed)))
        return {"train": str(path)}

    def test_keys(self) -> dict:
        """The keys of `data` of an evaluation."""
        if self.listed:
            return {"validation": str(self.source), "validation_split": "test"}
        return {"validation": str(self.source / "test")}


def make_videos(study: Study, folder: Path) -> StudyVideos:
    """Makes what is missing of a study's own videos, in `folder`/train and /test."""
    for split, seed in _SEEDS.items():
        each = getattr(study.videos_per_class, split)
        files = [
            folder / split / name / f"{name}_{number:04d}.mp4"
            for name in study.shapes.class_names
            for number in range(each)
        ]
        if all(map(os.path.isfile, files)):
            continue
        for name in study.shapes.class_names:
            remove_unfinished(folder / split / name)
        logging.info(f"videos      making {len(files):,} in {folder / split}")
        write_moving_shapes(folder / split, videos_per_class=each, seed=seed, shapes=study.shapes)
    return open_videos(folder)


def open_videos(source: str | os.PathLike) -> StudyVideos:
    """Somebody's own videos.

    Args:
        source: folder with the class folders of `train/` and `test/`, or a list with a column
            "split" that says "train" or "test".

    Raises:
        UserError: it is neither, the two differ in their classes, or there is one class.
    """
    source = Path(os.path.abspath(source))
    if source.is_file():
        train = load_video_list(str(source), split="train")
        test = load_video_list(str(source), class_names=train.class_names, split="test")
    else:
        if not source.exists():
            raise UserError(f"--data={source} does not exist")
        lacking = [name for name in _SEEDS if not (source / name).is_dir()]
        if lacking:
            raise UserError(
                f"--data={source} has no folder {' and none '.join(lacking)}; give a folder with "
                "class folders in train/ and in test/, or a list with a column 'split' that says "
                "train or test"
            )
        train = load_video_list(str(source / "train"))
        test = load_video_list(str(source / "test"), class_names=train.class_names)
    if train.num_classes < 2:
        raise UserError(f"--data={source} has one class, {train.class_names[0]}; it takes two")
    return StudyVideos(source, source.is_file(), train, test)


def warn_of_both_sides(videos: StudyVideos):
    """Says what is trained on and scored on at once, so that the scores flatter."""
    for line in on_both_sides(videos.train, videos.test):
        logging.warning(f"{videos.source}: {line}")


def _as_csv(videos: VideoList) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    times = ("start", "end") if videos.segments is not None else ()
    writer.writerow(("path", "label", *times))
    for index, path in enumerate(videos.paths):
        name = videos.class_names[videos.labels[index]]
        writer.writerow((path, name, *(videos.segment(index) or ("", "") if times else ())))
    return text.getvalue()
