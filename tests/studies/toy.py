"""A study of two variants and two seeds whose runs take seconds."""

STUDY = """\
title: Positions, in small
paper: MViT, Table 11
base: tiny.yaml
minutes: 0.2
seeds: [0, 1]
shuffled: true
videos_per_class: {train: 3, test: 1}
shapes: {num_frames: 16, fast_speed: null}
variants:
  none:
    params: model.overrides.positions=none
    published: {accuracy: 75.8, mparams: 36.2}
  separate:
    params: model.overrides.positions=separate
    published: {accuracy: 77.2, mparams: 36.5}
claims:
  - says: positions help
    greater: separate
    less: none
"""
EXPERIMENT = """\
model:
  name: mvit_s_16x4
  input_shape: [4, 32, 32, 3]
  overrides: {depths: [1, 1], embed_dim: 16, drop_path_rate: 0.1}
data: {sampling_rate: 2, short_side: 36, evaluation_clips: 1, decode_workers: 0}
train: {epochs: 2, batch_size: 8, learning_rate: 1.0e-3, warmup_epochs: 1, save_every_steps: 1}
"""


def write_study(folder):
    """Writes the study and its experiment; returns the path of the study."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    path = folder / "toy.yaml"
    path.write_text(STUDY)
    return path


def without_times(report):
    """A report but for the seconds that its runs took."""
    return {key: value for key, value in report.items() if key != "seconds"}
