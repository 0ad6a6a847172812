"""Which videos an experiment trains on and is scored on."""

import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.experiments.experiment import load_experiment, save_experiment
from mvit_tf.training.experiments.videos import (
    evaluation_videos,
    labelled_videos,
    train_and_validation,
)


def experiment(**data):
    return load_experiment(None, repr({"data": data}))


def names(videos):
    return [path.rsplit("/", 1)[-1] for path in videos.paths]


@pytest.fixture
def csv_file(tmp_path):
    rows = ["path,label,match,part"]
    rows += [f"{match}{i}.mp4,{'xy'[i % 2]},{match},{'V' if match == 'd' else 'T'}"
             for match in "abcd" for i in range(4)]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "list.csv"


def test_one_source_stays_on_one_side(csv_file):
    by_match = experiment(train=str(csv_file), validation_fraction=0.25, group_by="match")
    labelled = labelled_videos(by_match)
    train, validation = train_and_validation(by_match, labelled, None)
    assert len(validation) == 4 and len({name[0] for name in names(validation)}) == 1
    assert len(train) == 12
    assert evaluation_videos(by_match, labelled.class_names, None) == validation


def test_both_sides_from_one_list(csv_file):
    csv_file.write_text(csv_file.read_text().replace("part", "split"))
    both = experiment(
        train=str(csv_file), train_split="T",
        validation=str(csv_file), validation_split="V", group_by="match",
    )  # fmt: skip
    train, validation = train_and_validation(both, labelled_videos(both), None)
    assert (len(train), names(validation)) == (12, ["d0.mp4", "d1.mp4", "d2.mp4", "d3.mp4"])
    assert set(train.groups) == set("abc") and set(validation.groups) == {"d"}
    assert evaluation_videos(both, ("y", "x"), None).labels == (1, 0, 1, 0)
    with pytest.raises(UserError, match="by train_split or validation_split"):
        labelled_videos(experiment(train=str(csv_file)))
    with pytest.raises(UserError, match="data.validation_split is set, but not data.validation"):
        wrong = experiment(train=str(csv_file), train_split="T", validation_split="V")
        train_and_validation(wrong, labelled_videos(wrong), None)
    with pytest.raises(UserError, match="data.validation_split is set, but not data.validation"):
        evaluation_videos(wrong, ("x", "y"), None)


def test_a_saved_label_map_numbers_the_classes(tmp_path, csv_file):
    (tmp_path / "labels.txt").write_text("z\ny\nx\n")
    labelled = labelled_videos(
        experiment(train=str(csv_file), label_map=str(tmp_path / "labels.txt"))
    )
    assert labelled.class_names == ("z", "y", "x") and labelled.labels[:2] == (2, 1)


def test_one_class_is_refused_even_beside_an_empty_one(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4 1\nb.mp4 1\n")
    with pytest.raises(UserError, match="one class only, '1'"):
        labelled_videos(experiment(train=str(tmp_path / "list.txt")))


def test_nested_class_folders(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name / "cam").mkdir(parents=True)
        (tmp_path / name / "cam" / f"{name}.mp4").touch()
    assert names(labelled_videos(experiment(train=str(tmp_path), nested=True))) == [
        "x.mp4", "y.mp4",
    ]  # fmt: skip


def test_a_relative_source_is_found_from_another_folder(tmp_path, monkeypatch):
    for name in ("x", "y"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        (tmp_path / "videos" / name / f"{name}.mp4").touch()
    monkeypatch.chdir(tmp_path)
    given = experiment(train="videos")
    videos = labelled_videos(given)
    save_experiment(given, tmp_path / "run.yaml")
    monkeypatch.chdir("/")
    assert labelled_videos(load_experiment(tmp_path / "run.yaml")) == videos
