"""The warning where bfloat16 is slower."""

import pytest

from mvit_tf.training.optimization import precision


@pytest.mark.parametrize(
    ("text", "slow"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", False),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
    ],
)
def test_processors_without_units_for_bfloat16_are_slow(tmp_path, monkeypatch, text, slow):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    assert bool(precision.slow_bfloat16()) == slow
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: ["GPU:0"])
    assert precision.slow_bfloat16() is None
