"""The table, the lines and the picture of made-up runs."""

import json

import pytest
from matplotlib import image

from mvit_tf.studies.picture import plot_study
from mvit_tf.studies.report import make_report, to_json, to_markdown
from mvit_tf.studies.study import find_study, load_study
from tests.studies.toy import write_study

COSTS = {"none": {"gmacs": 0.0498, "mparams": 0.31}, "separate": {"gmacs": 0.0498, "mparams": 0.32}}


def results(**scores):
    return [
        {
            "variant": name,
            "seed": seed,
            "accuracy": accuracy,
            "shuffled": shuffled,
            "cost_of_shuffling": accuracy - shuffled,
            "seconds": 60,
        }
        for name, runs in scores.items()
        for seed, (accuracy, shuffled) in enumerate(runs)
    ]


@pytest.fixture
def report(tmp_path):
    study = load_study(write_study(tmp_path))
    made = results(none=[(0.5, 0.2), (0.6, 0.1)], separate=[(0.8, 0.3), (0.9, 0.2)])
    return make_report(study, made, COSTS, videos="toys", guessing=0.125, num_seeds=2)


def test_the_table_holds_means_deviations_and_the_papers_numbers(report):
    lines = to_markdown(report).splitlines()
    assert lines[0] == "# Positions, in small"
    assert "Runs here: toys. Guessing is right in 12.5 %." in lines[2]
    assert lines[4:8] == [
        "| variant | accuracy | frames shuffled | difference | runs | M parameters "
        "| published accuracy | published M parameters |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| none | 55.0 ± 7.1 % | 15.0 ± 7.1 % | 40.0 ± 14.1 % | 2 | 0.31 | 75.8 % | 36.2 |",
        "| separate | 85.0 ± 7.1 % | 25.0 ± 7.1 % | 60.0 ± 14.1 % | 2 | 0.32 | 77.2 % | 36.5 |",
    ]
    assert lines[-1] == (
        "- positions help: shows; +30.0 points of accuracy, more than the spread of 10.0 "
        "(published: +1.4)"
    )


def test_the_same_as_json(report):
    read = json.loads(to_json(report))
    assert read["variants"][0]["accuracy"] == {
        "mean": pytest.approx(0.55),
        "deviation": pytest.approx(0.0707, abs=1e-4),
        "runs": [0.5, 0.6],
    }
    (claim,) = read["claims"]
    assert claim["answer"] == "shows" and claim["published"] == pytest.approx(0.014)
    assert claim["difference"] == pytest.approx(0.3) and claim["spread"] == pytest.approx(0.1)


def test_a_pretraining_has_no_row_but_its_seconds(tmp_path):
    study = load_study(write_study(tmp_path))
    before = {"variant": "pretraining", "seed": 0, "seconds": 240}
    made = [before, *results(none=[(0.5, 0.2)])]
    report = make_report(study, made, COSTS, videos="toys", guessing=0.125, num_seeds=2)
    assert [row["variant"] for row in report["variants"]] == ["none", "separate"]
    assert [run["seconds"] for run in report["seconds"]] == [240, 60]


def test_runs_that_are_missing_leave_the_claim_open(tmp_path):
    study = load_study(write_study(tmp_path))
    made = results(none=[(0.5, 0.2)])
    report = make_report(study, made, COSTS, videos="toys", guessing=0.125, num_seeds=2)
    text = to_markdown(report)
    assert "| none | 50.0 % | 20.0 % | 30.0 % | 1 yet |" in text
    assert "| separate |  |  |  | 0 yet |" in text
    assert "positions help: open; it takes two runs or more of each" in text
    plot_study(report, tmp_path / "study.png")


def test_a_claim_on_shuffling_is_judged_by_the_difference_of_each_run():
    study = load_study(find_study("frame_order"))
    made = results(mvit=[(0.9, 0.3), (0.8, 0.3)], vit=[(0.2, 0.2), (0.3, 0.25)])
    costs = {"mvit": COSTS["none"], "vit": COSTS["separate"]}
    report = make_report(study, made, costs, videos="toys", guessing=0.125, num_seeds=2)
    claim = report["claims"][0]
    assert claim["difference"] == pytest.approx(0.55 - 0.025)
    assert claim["published"] == pytest.approx(0.071 - 0.001)
    assert claim["answer"] == "shows"


@pytest.mark.filterwarnings("error")
def test_any_title_and_name_can_be_drawn(report, tmp_path):
    """Dollars are no formulas, what no font has is its number, and nothing is squeezed out."""
    name = "\u306e\u0378_" + 58 * "n"
    rows = [{**row, "variant": name} for row in report["variants"]]
    title = "costs $\\frac$ or $^_$, " + 20 * "and so on "
    plot_study({**report, "title": title, "paper": title, "variants": rows}, tmp_path / "odd.png")
    nothing = dict.fromkeys(rows[0]["published"])
    rows = [{**row, "published": nothing} for row in rows]
    plot_study({**report, "variants": rows}, tmp_path / "unpublished.png")


def test_the_picture_shows_every_run_and_the_papers_numbers(report, tmp_path):
    plot_study(report, tmp_path / "study.png")
    picture = (255 * image.imread(tmp_path / "study.png")[..., :3]).round().astype(int)
    assert picture.shape[1] == 1500
    left, right = picture[:, :1000], picture[:, 1000:]
    orange = abs(picture - [0xE0, 0x7B, 0x39]).max(axis=-1) < 8
    blue_right = abs(right - [0x2A, 0x6F, 0xBB]).max(axis=-1) < 8
    assert orange[:, : left.shape[1]].any() and blue_right.any()
    assert not orange[:, left.shape[1] :].any()  # the paper has no shuffled frames here
