"""Lists the published weights that create_model(NAME, weights=SET) downloads.

Scores are those their publishers report, in per cent, over views as clips x crops.
"""

import argparse

from mvit_tf.console import format_table

NAME = "weights"
SUMMARY = "the published weights: model, set, score, licence, URL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="name of a model; without it all are listed"
    )


def run(arguments: argparse.Namespace) -> None:
    from mvit_tf.conversion.published import published_weights
    from mvit_tf.errors import UserError
    from mvit_tf.models import get_config

    entries = published_weights()
    if arguments.model is not None:
        get_config(arguments.model)
        entries = [entry for entry in entries if entry.model == arguments.model]
        if not entries:
            raise UserError(
                f"nobody has published weights for {arguments.model}; "
                "`mvit weights` lists the models that have some"
            )
    print(format_weights(entries))


def format_weights(entries) -> str:
    """A line of facts for each entry (PublishedWeights), and below it URL and note."""
    rows = []
    for entry in entries:
        views = f"{entry.views['temporal']}x{entry.views['spatial']}"
        scores = ["-" if score is None else f"{score:.1f}" for score in (entry.top1, entry.top5)]
        rows.append((entry.model, entry.set, *scores, views, entry.licence))
    header = ("model", "set", "top-1", "top-5", "views", "licence")
    names, rule, *facts = format_table(header, rows).splitlines()
    lines = [names, rule]
    for entry, line in zip(entries, facts, strict=True):
        lines += [line, f"    {entry.url}"] + [f"    {entry.note}"] * bool(entry.note)
    return "\n".join(lines)
