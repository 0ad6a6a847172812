"""The results of a study: a table in Markdown and JSON, and a line for each claim."""

import json
from collections.abc import Mapping, Sequence

from mvit_tf.studies.study import Study
from mvit_tf.studies.verdict import Verdict, judge, summarise

_TITLES = {"accuracy": "accuracy", "shuffled": "frames shuffled", "cost_of_shuffling": "difference"}
# Keys of a variant's cost, the columns' titles, and what they are printed with.
_COSTS = {"gmacs": ("GMACs", "{:.3g}"), "mparams": ("M parameters", "{:.3g}")}
_PERCENT = "{:.1f} %"


def make_report(
    study: Study,
    results: Sequence[Mapping],
    costs: Mapping[str, Mapping[str, float]],
    *,
    videos: str,
    guessing: float,
    num_seeds: int,
) -> dict:
    """What the finished runs say.

    Args:
        study: the study.
        results: of finished runs, as `Run.result` gives them.
        costs: `gmacs` and `mparams` of each variant's model.
        videos: what they were trained on, in words.
        guessing: accuracy of guessing, 0 to 1.
        num_seeds: runs of each variant that are wanted.

    Returns:
        dict for JSON. Scores are 0 to 1 but for those of the paper, in per cent as there.
    """
    names = ["accuracy", *(("shuffled", "cost_of_shuffling") if study.shuffled else ())]
    scores = {
        name: {
            variant: [result[name] for result in results if result["variant"] == variant]
            for variant in study.variants
        }
        for name in names
    }
    rows = []
    for name, variant in study.variants.items():
        row = {"variant": name, "params": variant.params}
        for score in names:
            if runs := scores[score][name]:
                summary = summarise(runs)
                row[score] = {"mean": summary.mean, "deviation": summary.deviation, "runs": runs}
        row |= costs[name]
        published = variant.published
        row["published"] = {
            "accuracy": published.accuracy,
            "shuffled": published.shuffled,
            "cost_of_shuffling": _difference(published.accuracy, published.shuffled),
            "gmacs": published.gmacs,
            "mparams": published.mparams,
        }
        rows.append(row)
    return {
        "study": study.name,
        "title": study.title,
        "paper": study.paper,
        "videos": videos,
        "guessing": guessing,
        "runs_wanted": num_seeds,
        "variants": rows,
        "claims": [_claim(verdict) for verdict in verdicts(study, scores)],
        "seconds": [
            {key: result[key] for key in ("variant", "seed", "seconds")} for result in results
        ],
    }


def verdicts(study: Study, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Verdict]:
    """What the runs say to each claim of a study.

    Args:
        scores: of each run, by score and variant, 0 to 1.
    """
    found = []
    for claim in study.claims:
        published = {
            name: _of_one(_published(variant.published, claim.score))
            for name, variant in study.variants.items()
        }
        found.append(judge(claim, scores[claim.score], published))
    return found


def to_markdown(report: Mapping) -> str:
    """A report of `make_report` as text."""
    scores = [name for name in _TITLES if any(name in row for row in report["variants"])]
    costs = [key for key in _COSTS if len({row[key] for row in report["variants"]}) > 1]
    papers = [
        key
        for key in (*_TITLES, *_COSTS)
        if any(row["published"][key] is not None for row in report["variants"])
    ]
    header = ["variant", *(_TITLES[name] for name in scores), "runs"]
    header += [_COSTS[key][0] for key in costs]
    header += [f"published {_TITLES.get(key) or _COSTS[key][0]}" for key in papers]
    lines = [
        f"# {report['title']}",
        "",
        f"Published numbers: {report['paper']}. Runs here: {report['videos']}. Guessing is "
        f"right in {_PERCENT.format(100 * report['guessing'])}. Mean and sample standard "
        "deviation of the runs.",
        "",
        _line(header),
        _line("---" for _ in header),
    ]
    for row in report["variants"]:
        runs = len(row["accuracy"]["runs"]) if "accuracy" in row else 0
        cells = [row["variant"], *(_score(row.get(name)) for name in scores)]
        cells.append(str(runs) if runs == report["runs_wanted"] else f"{runs} yet")
        cells += [_COSTS[key][1].format(row[key]) for key in costs]
        for key in papers:
            value, form = row["published"][key], _COSTS.get(key, (None, _PERCENT))[1]
            cells.append("" if value is None else form.format(value))
        lines.append(_line(cells))
    lines += ["", *(f"- {claim['in_words']}" for claim in report["claims"])]
    return "\n".join(lines) + "\n"


def to_json(report: Mapping) -> str:
    """A report of `make_report` as text."""
    return json.dumps(report, indent=2) + "\n"


def _claim(verdict: Verdict) -> dict:
    return {
        "says": verdict.claim.says,
        "score": verdict.claim.score,
        "greater": verdict.claim.greater,
        "less": verdict.claim.less,
        "difference": verdict.difference,
        "spread": verdict.spread,
        "published": verdict.published,
        "answer": verdict.answer,
        "apart": verdict.apart,
        "in_words": verdict.in_words(),
    }


def _published(published, score):
    if score == "cost_of_shuffling":
        return _difference(published.accuracy, published.shuffled)
    return getattr(published, score)


def _difference(first, second):
    return None if None in (first, second) else round(first - second, 6)


def _of_one(percent):
    return None if percent is None else percent / 100


def _score(score) -> str:
    if score is None:
        return ""
    deviation = score["deviation"]
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{100 * score['mean']:.1f}{spread} %"


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"
