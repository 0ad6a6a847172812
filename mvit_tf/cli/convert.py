"""Converts a PyTorch file of MViT weights to a Keras weights file.

Reads the layouts of SlowFast, torchvision, PyTorchVideo, timm and facebookresearch/mvit, told
apart by their names. PyTorch is not needed. The last line printed is the call that builds the
model of the file.
"""

import argparse

from mvit_tf.cli.arguments import positive_int

NAME = "convert"
SUMMARY = "a PyTorch weights file (.pth, .pyth, .safetensors) to a Keras one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="a .pth, .pyth, .pt or .safetensors file")
    parser.add_argument("destination", metavar="DST", help="the file to write, *.weights.h5")
    parser.add_argument(
        "--model", metavar="NAME", help="name of the model; told from the weights if left out"
    )
    parser.add_argument(
        "--num-classes",
        type=positive_int,
        metavar="N",
        help="classes of the model; another number than the file's leaves a fresh head, "
        "needed for a file without a head",
    )
    parser.add_argument(
        "--prefix", metavar="TEXT", help="what the model's names begin with, if there are several"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print where every variable came from"
    )


def run(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from mvit_tf.conversion.convert import convert_file
    from mvit_tf.errors import UserError

    if not arguments.destination.endswith(".weights.h5"):
        raise UserError(f"{arguments.destination} must end in .weights.h5, as Keras wants it")
    if not Path(arguments.destination).absolute().parent.is_dir():
        raise UserError(f"the folder of {arguments.destination} does not exist; create it first")
    report, call = convert_file(
        arguments.source,
        arguments.destination,
        model=arguments.model,
        num_classes=arguments.num_classes,
        prefix=arguments.prefix,
    )
    print(report.table() if arguments.verbose else report)
    print(call)
