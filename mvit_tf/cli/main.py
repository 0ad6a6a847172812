"""The console command `mvit`: a parser over one file per subcommand.

The files of the subcommands import TensorFlow only when they run, so that help and mistakes in
the arguments are answered at once.
"""

import argparse
from collections.abc import Sequence

from mvit_tf.cli import (
    benchmark,
    check_data,
    convert,
    data_service,
    demo,
    describe,
    evaluate,
    explain,
    export,
    features,
    plan,
    predict,
    prepare,
    score_views,
    serve,
    show_batch,
    study,
    train,
    web,
    weights,
)
from mvit_tf.cli.arguments import IntermixedParser
from mvit_tf.cli.startup import quiet_tensorflow, require_tensorflow, run_cli, run_program

_ON_TENSORFLOW = (
    demo, train, evaluate, export, predict, features, explain, serve, web, show_batch,
    data_service, score_views, study,
)  # fmt: skip
_COMMANDS = (*_ON_TENSORFLOW, check_data, prepare, describe, plan, convert, weights, benchmark)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mvit",
        description="Multiscale Vision Transformers for video and image classification.",
        epilog="`mvit COMMAND --help` tells what a command takes.",
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=IntermixedParser
    )
    for module in _COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.SUMMARY,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, on_tensorflow=module in _ON_TENSORFLOW)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `mvit` with the given arguments (`sys.argv` when `None`); returns the exit status."""
    quiet_tensorflow()
    arguments = build_parser().parse_args(argv)

    def run():
        if arguments.on_tensorflow:
            require_tensorflow()
        return arguments.run(arguments)

    return run_cli(run)


def console():
    """What the installed command `mvit` calls."""
    run_program(main)
