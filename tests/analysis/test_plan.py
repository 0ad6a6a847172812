"""What a training takes, counted and measured."""

import pytest

from mvit_tf.analysis.complexity import complexity
from mvit_tf.analysis.plan import clips_per_second_of, make_plan
from mvit_tf.analysis.training_memory import training_memory
from mvit_tf.errors import UserError
from mvit_tf.models import get_config


def counted(name, **options):
    config = get_config(name)
    return training_memory(config, complexity(config).params, **options)


def test_a_parameter_takes_its_weight_its_gradient_and_the_moments():
    params = complexity(get_config("mvit_b_16x4")).params
    assert counted("mvit_b_16x4").model_bytes == 16 * params
    assert counted("mvit_b_16x4", moments=1).model_bytes == 12 * params
    # In mixed precision a copy in bfloat16 too.
    assert counted("mvit_b_16x4", dtype="mixed_bfloat16").model_bytes == 18 * params


def test_a_batch_in_parts_takes_the_memory_of_one_the_sum_and_the_frames_that_wait():
    params = complexity(get_config("mvit_b_16x4")).params
    whole, parts = counted("mvit_b_16x4"), counted("mvit_b_16x4", parts=4)
    assert parts.model_bytes == whole.model_bytes + 4 * params
    frames = 16 * 224 * 224 * 3 * 4
    assert parts.of_batch(32) == parts.model_bytes + 8 * whole.clip_bytes + 24 * frames
    assert parts.largest_batch(parts.of_batch(32)) == 32
    assert parts.largest_batch(parts.of_batch(32) - 1) == 28
    # The moving average of the weights is as large as they are.
    assert counted("mvit_b_16x4", average=True).model_bytes == whole.model_bytes + 4 * params
    plan = make_plan(get_config("mvit_b_16x4"), devices=2, device_bytes=80e9, parts=4)
    assert plan.batch % 8 == 0 and plan.fits
    with pytest.raises(UserError, match="2 devices in 4 parts each .*; take a multiple of 8"):
        make_plan(get_config("mvit_b_16x4"), devices=2, batch=12, parts=4)


def test_a_vision_transformer_of_one_stage_is_counted_by_hand():
    """ViT-B: 12 equal blocks of 1569 tokens, 768 channels, 12 heads, no pooling."""
    tokens, width, heads = 8 * 14 * 14 + 1, 768, 12
    # The input and normed; q, k, v; what the attention gives; that on the input, and normed; the
    # hidden layer; mean and scale of two norms.
    kept = (2 + 3 + 1 + 2 + 4) * tokens * width * 4 + 2 * 2 * tokens * 4
    # The gradient of the attention: softmax, logits, slope.
    work = 3 * heads * tokens**2 * 4 + 2 * tokens * width * 4
    frames = 2 * 8 * 224 * 224 * 3 * 4
    # A share of it is freed late.
    assert counted("vit_b_8x8").clip_bytes == round(1.15 * (frames + 12 * kept + work))
    remat = frames + 12 * tokens * width * 4 + kept + work
    assert counted("vit_b_8x8", remat=True).clip_bytes == round(1.15 * remat)


# (model, frames, dtype, remat): how the peak of a process grew with each clip, in GB, on a CPU.
MEASURED = {
    ("mvit_s_16x4", 16, "float32", False): 0.514,
    ("mvit_b_16x4", 16, "float32", False): 0.986,
    ("mvitv2_s_16x4", 16, "float32", False): 1.246,
    ("mvitv2_t", None, "float32", False): 0.123,
    ("mvit_s_16x4", 4, "float32", False): 0.126,
    ("mvit_s_16x4", 4, "float32", True): 0.042,
    ("mvit_s_16x4", 4, "mixed_bfloat16", False): 0.0754,
}


@pytest.mark.parametrize(("name", "frames", "dtype", "remat"), MEASURED)
def test_what_is_counted_is_near_what_was_measured(name, frames, dtype, remat):
    config = get_config(name)
    if frames is not None:
        config = config.replace(input_shape=(frames, *config.input_shape[1:]))
    memory = training_memory(config, complexity(config).params, dtype=dtype, remat=remat)
    measured = MEASURED[name, frames, dtype, remat]
    assert memory.clip_bytes / 1e9 == pytest.approx(measured, rel=0.05)


def test_the_largest_batch_fits_and_one_more_clip_does_not():
    plan = make_plan(get_config("mvit_b_16x4"), devices=8, device_bytes=80e9)
    assert plan.largest_batch == plan.batch and plan.batch % 8 == 0 and plan.fits
    more = make_plan(get_config("mvit_b_16x4"), devices=8, device_bytes=80e9, batch=plan.batch + 8)
    assert not more.fits and more.usable_bytes == 72e9
    assert plan.step_bytes == plan.model_bytes + plan.batch // 8 * plan.clip_bytes
    none = make_plan(get_config("mvitv2_l_40x3"), device_bytes=8e9)
    assert none.largest_batch == 0 and none.batch == 1 and not none.fits


def test_time_follows_from_multiply_adds_and_the_share_of_the_peak():
    config = get_config("mvit_b_16x4")
    # Table 16 of the paper: 4.8 clips/s on an M40, whose peak is 6.8 TFLOP/s.
    speed_of_m40 = clips_per_second_of(config, peak=6.8e12, efficiency=0.3)
    assert speed_of_m40 == pytest.approx(4.8, rel=0.01)
    remat = clips_per_second_of(config, peak=6.8e12, efficiency=0.3, remat=True)
    assert remat == pytest.approx(0.75 * speed_of_m40)
    plan = make_plan(config, devices=4, batch=32, device_speed=5.0, clips=72_000)
    assert (plan.clips_per_second, plan.step_seconds, plan.hours) == (20.0, 1.6, 1.0)
    assert plan.input_bytes_per_second == 20 * 16 * 224 * 224 * 3 * 4
    assert plan.fits is None and plan.largest_batch is None


def test_a_batch_that_the_devices_cannot_share_is_refused():
    with pytest.raises(UserError, match="batch of 12 clips cannot be shared evenly by 8 devices"):
        make_plan(get_config("mvit_b_16x4"), devices=8, batch=12)
