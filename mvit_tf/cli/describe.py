"""Prints how a named model is built: its stages, its blocks, and what they cost."""

import argparse

NAME = "describe"
SUMMARY = "stages, blocks, parameters and multiply-adds of a named model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="name of a model, for example mvit_b_16x4; without it the names are listed",
    )
    parser.add_argument(
        "--compare",
        choices=["paper"],
        help="every model's parameters and multiply-adds beside the published ones",
    )


def run(arguments: argparse.Namespace) -> None:
    if arguments.compare:
        from mvit_tf.analysis.published_costs import compare_with_papers

        print(compare_with_papers())
        return
    if arguments.model is None:
        from mvit_tf.models.registry import list_models

        print("\n".join(list_models()))
        return
    from mvit_tf.analysis.describe import describe

    print(describe(arguments.model))
