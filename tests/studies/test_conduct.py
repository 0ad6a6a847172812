"""The order of a study's runs, what is kept of them, and how it ends; no run is a real one."""

import dataclasses
import errno
import json
import shutil

import pytest
import yaml

from mvit_tf.cli import main as cli
from mvit_tf.errors import UserError
from mvit_tf.files import held_file
from mvit_tf.interruption import Interrupted
from mvit_tf.studies import conduct as module
from mvit_tf.studies.conduct import conduct, seeds_of
from mvit_tf.studies.runs import plan_runs
from mvit_tf.studies.study import PRETRAINING, Variant, find_study, load_study
from mvit_tf.studies.videos import open_videos
from mvit_tf.training.experiments.experiment import load_experiment
from tests.studies.toy import STUDY, without_times, write_study
from tests.training.tiny import write_videos

ACCURACIES = {("none", 0): 0.5, ("none", 1): 0.6, ("separate", 0): 0.8, ("separate", 1): 0.9}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for seed, split in enumerate(("train", "test")):
        write_videos(root / split, videos_per_class=2, seed=seed)
    return root


@pytest.fixture
def study(tmp_path):
    return load_study(write_study(tmp_path / "study"))


@pytest.fixture
def executed(monkeypatch):
    """Runs as they are executed; each writes made-up scores."""
    done = []

    def execute(run):
        done.append((run.variant, run.seed))
        accuracy = ACCURACIES[run.variant, run.seed]
        run.model_dir.mkdir(parents=True)
        for name, score in (("evaluation", accuracy), ("evaluation_shuffled_frames", 0.2)):
            (run.model_dir / f"{name}.json").write_text(json.dumps({"top1_of_all": score}))
        run.keep_result(7.4)

    monkeypatch.setattr(module, "execute", execute)
    return done


def failing_at(monkeypatch, executed, number, error):
    execute = module.execute

    def disturbed(run):
        if len(executed) == number:
            raise error
        execute(run)

    monkeypatch.setattr(module, "execute", disturbed)


def test_each_variant_runs_with_each_seed_and_finished_runs_are_kept(
    study, videos, executed, tmp_path
):
    report = conduct(study, tmp_path / "out", data=videos)
    order = [("none", 0), ("separate", 0), ("none", 1), ("separate", 1)]
    assert executed == order
    assert [row["accuracy"]["runs"] for row in report["variants"]] == [[0.5, 0.6], [0.8, 0.9]]
    assert report["claims"][0]["answer"] == "shows"
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == json.loads(
        json.dumps(report)
    )
    assert conduct(study, tmp_path / "out", data=videos) == report
    assert executed == order
    ACCURACIES.update({("none", 2): 0.5, ("separate", 2): 0.7})
    more = conduct(study, tmp_path / "out", data=videos, num_seeds=3)
    assert executed[4:] == [("none", 2), ("separate", 2)]
    assert more["variants"][0]["accuracy"]["runs"] == [0.5, 0.6, 0.5]


def test_the_time_that_is_left(study, videos, monkeypatch, tmp_path, capsys):
    def execute(run):
        run.model_dir.mkdir(parents=True)
        for name in ("evaluation", "evaluation_shuffled_frames"):
            (run.model_dir / f"{name}.json").write_text(json.dumps({"top1_of_all": 0.5}))
        run.keep_result(240)

    monkeypatch.setattr(module, "execute", execute)
    # Of 0.2 minutes with 2 epochs; of one variant twice as long.
    variants = {**study.variants, "separate": Variant("train.epochs=4")}
    study = dataclasses.replace(study, variants=variants)
    conduct(study, tmp_path / "out", data=videos, params="train.epochs=20,train.warmup_epochs=1")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run  ")]
    assert [line.split("; about ")[1] for line in said] == [
        f"{minutes} min left in all" for minutes in (6, 8, 8, 2)
    ]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (UserError("none, seed 1: no video"), UserError, "none, seed 1: no video"),
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "no space in .*out"),
        (Interrupted(15), Interrupted, "SIGTERM"),
    ],
)
def test_a_stopped_study_goes_on_to_the_same_table(
    error, raised, message, study, videos, executed, monkeypatch, tmp_path
):
    straight = conduct(study, tmp_path / "straight", data=videos)
    executed.clear()
    with monkeypatch.context() as patch:
        failing_at(patch, executed, 2, error)
        with pytest.raises(raised, match=message):
            conduct(study, tmp_path / "out", data=videos)
    so_far = json.loads((tmp_path / "out" / "results.json").read_text())
    assert so_far["variants"][1]["accuracy"]["runs"] == [0.8]
    assert so_far["claims"][0]["answer"] == "open"
    report = conduct(study, tmp_path / "out", data=videos)
    assert executed == [("none", 0), ("separate", 0), ("none", 1), ("separate", 1)]
    assert without_times(report) == without_times(straight)


def test_another_study_is_refused_in_the_folder(study, videos, executed, tmp_path):
    conduct(study, tmp_path / "out", data=videos)
    with pytest.raises(UserError, match="another study: none: train.epochs is 2 there, 3 now"):
        conduct(study, tmp_path / "out", data=videos, params="train.epochs=3")
    with pytest.raises(UserError, match="another study: videos: data is .* there, None now"):
        conduct(study, tmp_path / "out")
    with (
        held_file(tmp_path / "out" / ".study"),
        pytest.raises(UserError, match="another study is running in .*out"),
    ):
        conduct(study, tmp_path / "out", data=videos)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output=.*file is a file"):
        conduct(study, tmp_path / "file", data=videos)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match="--output=.*mine holds notes.txt and no study"):
        conduct(study, tmp_path / "mine", data=videos)


def test_videos_that_changed_are_another_study(study, videos, executed, tmp_path):
    own = shutil.copytree(videos, tmp_path / "own")
    conduct(study, tmp_path / "out", data=own)
    video, other = sorted((own / "test").glob("*/*.mp4"))[:2]
    content = video.read_bytes()
    shutil.copy(other, video)
    with pytest.raises(UserError, match="the videos of .*own, or their labels, were others then"):
        conduct(study, tmp_path / "out", data=own)
    video.write_bytes(content)
    conduct(study, tmp_path / "out", data=own)
    video.rename(video.with_stem("renamed"))
    with pytest.raises(UserError, match="the videos of .*own, or their labels, were others then"):
        conduct(study, tmp_path / "out", data=own)
    (own / "train" / "left").rename(own / "train" / "port")
    with pytest.raises(UserError, match="not one of the .* known classes"):
        conduct(study, tmp_path / "new", data=own)


def test_a_variant_that_has_no_run_yet_may_change(study, videos, executed, monkeypatch, tmp_path):
    def with_other(name, params):
        none, separate = study.variants.values()
        variants = {"none": none, name: dataclasses.replace(separate, params=params)}
        return dataclasses.replace(study, variants=variants, claims=())

    with monkeypatch.context() as patch:
        failing_at(patch, executed, 1, UserError("separate, seed 0: no memory"))
        with pytest.raises(UserError, match="no memory"):
            conduct(study, tmp_path / "out", data=videos)
    ACCURACIES.update({("joint", 0): 0.7, ("joint", 1): 0.7})
    params = "model.overrides.positions=joint"
    conduct(with_other("separate", params), tmp_path / "out", data=videos)
    assert executed.count(("none", 0)) == 1 and ("separate", 1) in executed
    conduct(with_other("joint", params), tmp_path / "out", data=videos)
    # What is left out for a while binds all the same.
    with pytest.raises(UserError, match="separate: model.overrides: positions is 'joint' there"):
        conduct(study, tmp_path / "out", data=videos)


def test_until_a_run_has_begun_other_keys_take_their_place(
    study, videos, executed, monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        failing_at(patch, executed, 0, UserError("none, seed 0: no memory"))
        with pytest.raises(UserError, match="no memory"):
            conduct(study, tmp_path / "out", data=videos)
    conduct(study, tmp_path / "out", data=videos, params="train.epochs=3")
    said = (tmp_path / "out" / "results.md").read_text()
    assert "16 videos to train on; with train.epochs=3. Guessing is right in 12.5 %." in said


def test_what_no_run_could_do_is_said_before_the_first(study, videos, executed, tmp_path):
    few = dataclasses.replace(
        study, variants={**study.variants, "few": Variant(label_share=0.5)}, claims=()
    )
    message = "few, seed 0: 8 videos are fewer than one batch of 16; .*train.batch_size"
    with pytest.raises(UserError, match=message):
        conduct(few, tmp_path / "out", data=videos, params="train.batch_size=16")
    with pytest.raises(UserError, match="--params_override: train.seed is set by the study"):
        conduct(study, tmp_path / "out", data=videos, params="train.seed=3")
    assert executed == []


def test_a_variant_that_its_pretraining_does_not_fit_is_said_before_it(videos, executed, tmp_path):
    params = "pretraining.method=maskfeat,pretraining.mask_window=[2,2,2],train.batch_size=4"
    change = {
        "pretraining": {"params": params, "minutes": 1.0},
        "variants": {
            "fits": {"pretrained": True},
            "not": {"pretrained": True, "params": "model.overrides.positions=none"},
        },
        "claims": [],
    }
    path = write_study(tmp_path / "study")
    path.write_text(yaml.safe_dump({**yaml.safe_load(STUDY), **change}))
    with pytest.raises(UserError, match="^not, seed 0: the pre-training.*positions/spatial"):
        conduct(load_study(path), tmp_path / "out", data=videos)
    assert executed == []


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("study.json", "", "study.json is damaged; bring it back, or choose another --output"),
        ("runs/none/seed_0.json", '{"variant": ', "seed_0.json is damaged; delete it, and the run"),
        ("runs/none/seed_0.json", "{}", "seed_0.json is of another study; delete it"),
        ("results.md", None, "out/results.* cannot be written: Is a directory"),
    ],
)
def test_damaged_files_are_named(file, text, message, study, videos, executed, tmp_path):
    conduct(study, tmp_path / "out", data=videos)
    damaged = tmp_path / "out" / file
    if text is None:
        damaged.unlink()
        damaged.mkdir()
    else:
        damaged.write_text(text)
    with pytest.raises(UserError, match=message):
        conduct(study, tmp_path / "out", data=videos)


def test_a_video_on_both_sides_is_told(study, videos, executed, tmp_path, caplog):
    own = shutil.copytree(videos, tmp_path / "own")
    shutil.copy(next((own / "train" / "left").glob("*.mp4")), own / "test" / "left" / "copy.mp4")
    conduct(study, tmp_path / "out", data=own)
    assert "1 files are in training and in validation" in caplog.text


def test_a_study_of_ones_own_videos_makes_none(tmp_path):
    study = load_study(find_study("pretraining_own_videos"))
    with pytest.raises(UserError, match="pretraining_own_videos makes no videos; give yours by"):
        conduct(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_seeds_beyond_the_studys_own_are_the_next_numbers(study):
    assert seeds_of(study, None) == (0, 1)
    assert seeds_of(study, 1) == (0,)
    assert seeds_of(study, 4) == (0, 1, 2, 3)


def test_runs_of_the_pretraining_study_start_from_that_of_their_seed(videos, tmp_path):
    study = load_study(find_study("pretraining"))
    runs = plan_runs(study, open_videos(videos), (0, 1), tmp_path, "train.epochs=2")
    assert [run.variant for run in runs[:7]] == [PRETRAINING, *study.variants]
    assert runs[0].evaluations == {} and runs[7].seed == 1
    experiments = {
        (run.variant, run.seed): load_experiment(run.config_file, run.overrides) for run in runs
    }
    before = experiments[PRETRAINING, 1]
    assert before.pretraining.method == "maskfeat" and before.data.train == str(videos / "train")
    tuned = experiments["labels_100_pretrained", 1]
    assert tuned.model.initial_weights == str(tmp_path / "runs" / PRETRAINING / "seed_1")
    assert tuned.model.reset_head and (tuned.train.seed, tuned.data.seed) == (1, 1)
    assert tuned.train.epochs == 2 and tuned.data.validation is None
    assert experiments["labels_100", 1].model.initial_weights is None
    few = experiments["labels_10", 1].data.train
    assert few == experiments["labels_10_pretrained", 1].data.train != str(videos / "train")
    scored = load_experiment(runs[1].config_file, runs[1].evaluations["accuracy"])
    assert scored.data.validation == str(videos / "test")


def test_the_command_lists_the_studies_and_says_how_to_go_on(
    study, videos, executed, monkeypatch, tmp_path, capsys
):
    assert cli.main(["study"]) == 0
    listed = capsys.readouterr().out
    assert "frame_order" in listed and "Table 9" in listed and "All together" in listed
    assert cli.main(["study", "frame_oder"]) == 2
    assert "did you mean 'frame_order'?" in capsys.readouterr().err
    file = str(tmp_path / "study" / "toy.yaml")
    arguments = ["study", file, "--output", str(tmp_path / "out"), "--data", str(videos)]
    with monkeypatch.context() as patch:
        failing_at(patch, executed, 1, Interrupted(15))
        assert cli.main(arguments) == 143
    assert "interrupted; the same command goes on: mvit" in capsys.readouterr().err
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert "| separate | 85.0 ± 7.1 %" in printed.out
    assert "positions help: shows" in printed.out
