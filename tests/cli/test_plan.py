"""`mvit plan`: what a training takes, before it begins."""

import argparse

import pytest

from mvit_tf.cli.main import main
from mvit_tf.cli.plan import bytes_of


def line_of(printed, word):
    (line,) = [line for line in printed.splitlines() if line.startswith(word)]
    return line


def test_a_named_model_on_devices_of_a_size(capsys):
    arguments = ["--devices", "8", "--device-memory", "80G", "--batch", "64"]
    assert main(["plan", "mvit_b_16x4", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "36.61 M parameters, 70.60 GMACs a clip of 16x224x224, float32" in printed
    assert "64 clips, 8 on each of 8 devices" in line_of(printed, "batch")
    assert line_of(printed, "batch").endswith("which fits")
    assert "--peak_tflops" in line_of(printed, "time")


def test_a_recipe_of_the_package_gets_its_hours(capsys):
    arguments = ["--devices", "64", "--clips_per_second", "30", "--videos", "240000"]
    arguments += ["--video_size", "600K", "--device_memory", "16GiB"]
    assert main(["plan", "--config", "kinetics400_mvit_b_16x4", *arguments]) == 0
    printed = capsys.readouterr().out
    # 240,000 videos x 2 clips x 200 epochs at 64 x 30 clips a second.
    assert f"{240_000 * 2 * 200 / 1920 / 3600:,.1f} for 200 epochs" in line_of(printed, "hours")
    assert "960 videos/s to decode, 576.0 MB/s of files" in line_of(printed, "input")
    assert "0.267 s, 1920 clips/s (as given)" in line_of(printed, "step")
    assert line_of(printed, "batch").endswith("which fits")


def test_parts_a_moving_average_and_weights_that_are_kept_are_told(capsys):
    keys = "train.gradient_accumulation_steps=4,train.ema_decay=0.999,train.lora_rank=8"
    assert main(["plan", "--config", "finetune", f"--params_override={keys}"]) == 0
    printed = capsys.readouterr().out
    memory = line_of(printed, "memory")
    assert "weights, gradients, their sum, moving average and optimizer" in memory
    assert "for each clip of a part of its batch" in memory
    assert "4 on each of 1 device in 4 parts" in line_of(printed, "batch")
    assert "what train.lora_rank=8 saves" in line_of(printed, "not counted")


def test_an_experiment_in_the_place_of_a_model_is_told(capsys):
    assert main(["plan", "small_data"]) == 2
    said = "error: small_data is an experiment, no model; give it as --config small_data\n"
    assert capsys.readouterr().err == said


def test_an_image_model_and_a_batch_that_does_not_fit(capsys):
    arguments = ["--peak_tflops", "312", "--dtype", "bfloat16", "--batch", "4096"]
    assert main(["plan", "mvitv2_t", "--device_memory", "40G", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "GMACs an image of 224x224, mixed_bfloat16" in printed
    assert "does NOT fit; train.remat=true takes less" in line_of(printed, "batch")
    assert "(5% of 312 TFLOP/s)" in line_of(printed, "step")
    assert "give --videos and --epochs" in line_of(printed, "hours")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a MODEL, or an experiment by --config"),
        (["mvit_b_16x4", "--config", "demo"], "give a MODEL, or an experiment by --config"),
        (["mvit_b_16x4", "--params_override", "train.epochs=3"], "goes with --config"),
        (["mvit_b16x4"], "did you mean 'mvit_b_16x4'?"),
        (["mvit_b_16x4", "--efficiency", "30"], "--efficiency=30 must be at most 1"),
        (["mvit_b_16x4", "--devices", "8", "--batch", "12"], "cannot be shared evenly"),
    ],
)
def test_mistakes_end_in_a_line(arguments, message, capsys):
    assert main(["plan", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed and len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("80G", 80e9), ("24GiB", 24 * 2**30), ("600k", 6e5), ("1.5TB", 1.5e12), ("512", 512)],
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "G", "80X", "-1G", "0", "1.2.3G", "inf"])
def test_what_is_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 80G or 24GiB"):
        bytes_of(text)
