"""Tells before a training what it takes: memory, the largest batch, seconds a step, input, hours.

  mvit plan mvit_b_16x4 --devices 8 --device_memory 80G
  mvit plan --config kinetics400_mvit_b_16x4 --devices 64 --device_memory 80G \\
      --peak_tflops 312 --videos 240000 --params_override=train.dtype=mixed_bfloat16

Memory is counted from the model's blocks and what a step of this project keeps of them. Seconds
are 2 x 3 x GMACs a clip (2 x 4 with rematerialisation) by the share of the device's peak that is
reached, an estimate that may be off by a factor of two; with --clips_per_second, measured by `mvit
benchmark` on one such device, they are as good as that is. The devices are taken to wait neither
for each other nor for the input.
"""

import argparse
import re

from mvit_tf.cli.arguments import positive_int, positive_number
from mvit_tf.errors import UserError

NAME = "plan"
SUMMARY = "memory, batch, time and input that a training takes on given devices"

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="its name, without --config")
    parser.add_argument(
        "--config",
        "--config_file",
        metavar="EXPERIMENT",
        help="a YAML file, or the name of an experiment of the package: its model, batch, epochs",
    )
    parser.add_argument(
        "--params_override", metavar="KEYS", default="", help="over --config, as for `mvit train`"
    )
    parser.add_argument(
        "--devices", type=positive_int, default=1, metavar="N", help="GPUs or TPU cores (1)"
    )
    parser.add_argument(
        "--device_memory",
        "--device-memory",
        type=bytes_of,
        metavar="SIZE",
        help="of each, such as 80G, or 24GiB",
    )
    parser.add_argument(
        "--batch", type=positive_int, metavar="N",
        help="clips of a step over all devices (default: that of --config, or the largest)",
    )  # fmt: skip
    parser.add_argument(
        "--peak_tflops", type=positive_number, metavar="X",
        help="a device's peak by its data sheet in the dtype in use: of an A100 312 in bfloat16",
    )  # fmt: skip
    parser.add_argument(
        "--efficiency", type=positive_number, metavar="SHARE",
        help="share of that which training reaches (0.30 in float32, 0.05 in bfloat16)",
    )  # fmt: skip
    parser.add_argument(
        "--clips_per_second", type=positive_number, metavar="X",
        help="of one device in training, as measured, in place of the two before",
    )  # fmt: skip
    parser.add_argument(
        "--videos", type=positive_int, metavar="N", help="videos (or images) of an epoch"
    )
    parser.add_argument(
        "--epochs", type=positive_int, metavar="N", help="of the training (that of --config)"
    )
    parser.add_argument(
        "--video_size", type=bytes_of, metavar="SIZE",
        help="of a file on average, such as 600K: for what must be read",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="(default: that of --config, or float32)"
    )
    parser.add_argument("--remat", action="store_true", help="keep only each block's input")


def run(arguments: argparse.Namespace) -> None:
    from mvit_tf.analysis.plan import EFFICIENCY, clips_per_second_of, make_plan

    settings = _settings(arguments)
    if arguments.efficiency is not None and arguments.efficiency > 1:
        raise UserError(f"--efficiency={arguments.efficiency:g} must be at most 1")
    config, dtype, remat = settings["config"], settings["dtype"], settings["remat"]
    speed, how = arguments.clips_per_second, "as given"
    if speed is None and arguments.peak_tflops is not None:
        efficiency = arguments.efficiency or EFFICIENCY[dtype]
        peak = arguments.peak_tflops * 1e12
        speed = clips_per_second_of(config, peak=peak, efficiency=efficiency, remat=remat)
        how = f"{efficiency:.0%} of {arguments.peak_tflops:g} TFLOP/s"
    clips = None
    if arguments.videos and settings["epochs"]:
        clips = arguments.videos * settings["repeats"] * settings["epochs"]
    plan = make_plan(
        config,
        devices=arguments.devices,
        device_bytes=arguments.device_memory,
        batch=settings["batch"],
        dtype=dtype,
        remat=remat,
        moments=settings["moments"],
        parts=settings["parts"],
        average=settings["average"],
        device_speed=speed,
        clips=clips,
    )
    print(format_plan(plan, settings, how, arguments.video_size))


def bytes_of(text: str) -> int:
    """A size such as "80G" (10^9 each) or "24GiB" (2^30)."""
    found = re.fullmatch(r"([0-9.]+)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    try:
        unit = found[2].upper()
        factor = 1024 ** "KMGT".index(unit) * 1024 if found[3] and unit else _UNITS[unit]
        size = int(float(found[1]) * factor)
    except (TypeError, ValueError):
        size = 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"must be a size such as 80G or 24GiB, got {text!r}")
    return size


def _settings(arguments):
    """What is trained, by --config or by the flags alone."""
    if (arguments.model is None) == (arguments.config is None):
        raise UserError("give a MODEL, or an experiment by --config")
    if arguments.config is None:
        if arguments.params_override:
            raise UserError("--params_override goes with --config")
        settings = {
            "name": arguments.model,
            "config": _model_config(arguments.model),
            "batch": None,
            "epochs": None,
            "repeats": 1,
            "dtype": "float32",
            "remat": False,
            "moments": 2,
            "parts": 1,
            "average": False,
            "frozen_by": None,
        }
    else:
        from mvit_tf.cli.configs import find_config
        from mvit_tf.training.experiments.experiment import load_experiment

        experiment = load_experiment(find_config(arguments.config), arguments.params_override)
        name = experiment.model.name
        from mvit_tf.models.registry import get_config

        train = experiment.train
        settings = {
            "name": name,
            # Its classes are those of the data, which need not be here.
            "config": experiment.model_config(get_config(name).num_classes),
            "batch": train.batch_size,
            "epochs": train.epochs,
            "repeats": experiment.data.repeated_augmentation,
            "dtype": train.dtype,
            "remat": train.remat,
            "moments": 1 if train.optimizer == "sgd" else 2,
            "parts": train.gradient_accumulation_steps,
            "average": train.ema_decay is not None,
            "frozen_by": _frozen_by(train),
        }
    if arguments.dtype is not None:
        settings["dtype"] = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[arguments.dtype]
    settings["remat"] = settings["remat"] or arguments.remat
    settings["batch"] = arguments.batch or settings["batch"]
    settings["epochs"] = arguments.epochs or settings["epochs"]
    return settings


def _model_config(name):
    from mvit_tf.models.registry import get_config
    from mvit_tf.training.experiments.files import package_configs

    if name.removesuffix(".yaml") in package_configs():
        raise UserError(f"{name} is an experiment, no model; give it as --config {name}")
    return get_config(name)


def _frozen_by(train):
    """The key by which not all weights are trained, with its value; None where they are."""
    if train.probe:
        return "train.probe=true"
    if train.lora_rank is not None:
        return f"train.lora_rank={train.lora_rank}"
    return f"train.freeze_blocks={train.freeze_blocks}" if train.freeze_blocks else None


def format_plan(plan, settings: dict, how: str, video_size: int | None = None) -> str:
    """A plan in lines, each with what it rests upon.

    Args:
        plan: Plan.
        settings: the model's name, its config, the dtype, whether with rematerialisation, the
            clips of each video in a batch, the epochs, the parts of a batch, whether a moving
            average is kept, and the key by which not all weights are trained.
        how: where the speed comes from.
        video_size: bytes of a video file.
    """
    unit = "image" if settings["config"].image else "clip"
    shape = "x".join(map(str, settings["config"].input_shape[:-1]))
    remat = ", with rematerialisation" if settings["remat"] else ""
    parts = settings["parts"]
    kept = ["weights", "gradients"]
    kept += ["their sum"] * (parts > 1) + ["moving average"] * settings["average"]
    lines = [
        f"model         {settings['name']}: {plan.params / 1e6:.2f} M parameters, "
        f"{plan.macs / 1e9:.2f} GMACs {'an' if unit == 'image' else 'a'} {unit} of {shape}, "
        f"{settings['dtype']}{remat}",
        f"memory        {plan.model_bytes / 1e9:.2f} GB a device for {', '.join(kept)} and "
        f"optimizer, and {plan.clip_bytes / 1e9:.3f} GB for each {unit} of "
        f"{'its batch' if parts == 1 else 'a part of its batch'}",
    ]
    if settings["frozen_by"] is not None:
        lines.append(
            f"not counted   what {settings['frozen_by']} saves: memory and time are those of "
            "training all weights"
        )
    if plan.largest_batch is not None:
        lines.append(
            f"largest batch {plan.largest_batch} {unit}s on {_devices(plan)}, "
            f"{plan.largest_batch // plan.devices} on each, in {plan.usable_bytes / 1e9:.1f} GB "
            "that it can have"
        )
    fits = {None: "", True: ", which fits", False: ", which does NOT fit"}[plan.fits]
    if plan.fits is False and not settings["remat"]:
        fits += "; train.remat=true takes less"
    in_parts = f" in {parts} parts" if parts > 1 else ""
    lines.append(
        f"batch         {plan.batch} {unit}s, {plan.batch // plan.devices} on each of "
        f"{_devices(plan)}{in_parts}: {plan.step_bytes / 1e9:.2f} GB{fits}"
    )
    if plan.clips_per_second is None:
        lines.append(
            "time          give --peak_tflops of a device, or --clips_per_second that it trains "
            "(`mvit benchmark`)"
        )
        return "\n".join(lines)
    rate = plan.clips_per_second
    lines.append(f"step          {plan.step_seconds:.3g} s, {rate:.4g} {unit}s/s ({how})")
    files = rate / settings["repeats"]
    read = f", {files * video_size / 1e6:.1f} MB/s of files" if video_size else ""
    noun = "images" if unit == "image" else "videos"
    lines.append(
        f"input         {files:.4g} {noun}/s to decode{read}; "
        f"{plan.input_bytes_per_second / 1e6:,.0f} MB/s of frames to the devices"
    )
    if plan.hours is None:
        lines.append(f"hours         give --videos and --epochs: {noun} of an epoch, and how many")
    else:
        lines.append(
            f"hours         {plan.hours:,.1f} for {settings['epochs']} epochs, "
            f"{plan.hours * plan.devices:,.0f} device-hours; validation not counted"
        )
    return "\n".join(lines)


def _devices(plan) -> str:
    return "1 device" if plan.devices == 1 else f"{plan.devices} devices"
