"""The sections of an experiment: every key with its type, range and default.

Each is the Model Garden's `hyperparams.Config`, so that its users find their files, flags and
`as_dict` again; pydantic checks what goes in, as declared here and in the data classes whose
fields are keys of `data` too.

Importing this module imports `official.modeling.hyperparams`, and with it `tf_keras`, which is
never used: 0.3 s on top of TensorFlow. Outside `training`, nothing of the package does.
"""

import dataclasses
import threading
import typing
from typing import Annotated, Literal

import pydantic
from official.modeling import hyperparams
from pydantic import Field
from pydantic.dataclasses import dataclass

from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.sampling import ClipSampling
from mvit_tf.models import MViTConfig
from mvit_tf.typed import (
    CHECKS,
    Count,
    NotNegative,
    Positive,
    PositiveShare,
    Seed,
    Share,
    ShareBelowOne,
)

# Fields of MViTConfig that follow from other keys of the experiment.
DERIVED_MODEL_FIELDS = {
    "num_classes": "the classes of data.train",
    "input_shape": "model.input_shape",
    "input_size": "model.input_shape",
    "image": "model.name",
}
RENAMED_MODEL_FIELDS = {"widen_in": "expand_in"}

ModelFields = pydantic.create_model(
    "ModelFields",
    __config__=CHECKS,
    **{
        name: (hint, None)
        for name, hint in typing.get_type_hints(MViTConfig).items()
        if name not in DERIVED_MODEL_FIELDS
    },
)


def _config_of_given(fields: pydantic.BaseModel) -> hyperparams.Config:
    return hyperparams.Config(fields.model_dump(exclude_unset=True))


# Fields of the data classes that follow from the model's input, and one that `data` calls
# otherwise; all others are keys of `data`, with the type, range and default declared there.
_FROM_INPUT = ("num_frames", "size")
_KEY_OF_FIELD = {"rule": "sampling_rule"}


def keys_of(cls: type) -> dict[str, str]:
    """Key of `data` -> field of a data class."""
    names = [field.name for field in dataclasses.fields(cls)]
    return {_KEY_OF_FIELD.get(name, name): name for name in names if name not in _FROM_INPUT}


def _shared_keys():
    for cls in (ClipSampling, Preprocessing, Augmentation):
        hints = typing.get_type_hints(cls, include_extras=True)
        for key, name in keys_of(cls).items():
            yield key, hints[name], getattr(cls, name)


_ClipKeys = dataclasses.make_dataclass("_ClipKeys", _shared_keys(), bases=(hyperparams.Config,))


@dataclass(config=CHECKS)
class ModelSection(hyperparams.Config):
    """Which model.

    Attributes:
        name: a name of `mvit_tf.list_models()`.
        input_shape: `[T, H, W, 3]` of a clip, or `[H, W, 3]` of an image, which is kept as
            `[1, H, W, 3]`; `None` takes the named model's own.
        overrides: other `MViTConfig` fields, by name.
        initial_weights: a published set ("kinetics400"; `mvit weights` lists them), a PyTorch
            checkpoint, a `.weights.h5` file, a model directory whose best checkpoint is taken, here
            or on gs:// or s3://, or "small_data", the weights that come with that experiment;
            `None` starts from random weights.
        reset_head: keep the new random head and load only the rest of `initial_weights`, as
            fine-tuning on other classes needs.
    """

    name: str = "mvit_b_16x4"
    input_shape: tuple[Count, Count, Count, Literal[3]] | None = None
    # What it holds is what was given of `ModelFields`.
    overrides: Annotated[ModelFields, pydantic.AfterValidator(_config_of_given)] = Field(
        default_factory=hyperparams.Config
    )
    initial_weights: str | None = None
    reset_head: bool = False


@dataclass(config=CHECKS)
class DataSection(_ClipKeys):
    """Which videos, how clips are taken from them, and how frames become model input.

    The fields of `ClipSampling`, `Preprocessing` and `Augmentation` are keys too: sampling_rate,
    target_fps, sampling_rule (`ClipSampling.rule`), short_videos; short_side, mean, std,
    channel_order, interpolation; scale, ratio, flip, rand_augment, color_jitter, grayscale, blur,
    blur_sigma, random_erasing, mixup_alpha, cutmix_alpha, mixup_switch_prob, mixup_prob.

    Attributes:
        train: training videos: a folder with one folder per class, a list in a form of
            `mvit_tf.data.lists.list_formats`, or a record set (docs/records.md). For an image
            model images in place of videos; a list may name videos too, of which it takes a frame.
        validation: validation videos, in any of these forms.
        tfds_name: a video set of TensorFlow Datasets, such as "ucf101", in place of `train`; its
            split is `train_split`, and held out is `validation_split`, if that is set.
        tfds_data_dir: where that is built; `None` is $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        train_split: what the list `train` says, in its column `split` or the one that is it by
            what it holds, of the videos to take.
        validation_split: the same of `validation`, which may be the same list.
        validation_fraction: share of each class of `train` held out where there is no `validation`:
            one that an override or a config built upon this one names takes its place.
        group_by: what keeps videos of one source on one side of the split: a column of the list,
            "folder", or a regular expression on the file's name, e.g. "^match[0-9]+".
        nested: take the videos of folders within class folders too.
        root: folder that relative paths of lists start from; `None` is the list's own folder.
        separator: what stands between path and label in a list; `None` is white space, or what
            the header of a CSV shows.
        multi_label: a video may have any number of labels: the model gives each class a
            probability of its own (sigmoid, binary cross-entropy), and is scored by mean average
            precision. How lists write several labels is said in `list_formats`.
        repeated_augmentation: differently augmented clips of each video in a batch, SlowFast's
            AUG.NUM_SAMPLE. A batch still holds `train.batch_size` clips, of fewer videos (SlowFast
            counts its videos), and an epoch each video once, so more steps.
        balanced_sampling: an epoch draws as many videos as there are, but each class equally
            often, see `balanced_order`.
        label_map: file of the class names in index order, such as the `labels.txt` of a model
            directory; `None` numbers the classes of `train`.
        evaluation_clips: temporal views per video of the final evaluation.
        evaluation_crops: 1 (centre) or 3 (left, centre, right) spatial views.
        ensemble_method: what the probabilities of a video's views become: their "mean", or the
            "max" of each class, as SlowFast tests on Charades.
        evaluation_batch_size: views per evaluation step; `None` is `train.batch_size`.
        save_views: keep what the evaluation's model says to each view in evaluation_views.npz, for
            `mvit score-views`: 4 bytes for each view and class.
        shuffle_frames: evaluate with each clip's frames in random order (the paper's Table 9).
        max_failure_share: share of videos that may fail to decode before a run ends in an error; so
            do 20 failures in a row in training, or missing files in evaluation.
        tolerated_damage: share of a clip's frames that may be undecodable: the nearest decoded
            frame of the clip then stands for each.
        decode_threads: videos decoded at once; `None` leaves it to the pipeline.
        decode_workers: processes that decode, so that no broken video can stop or crash the
            training; `None` is one for each processor, 0 decodes in the training process.
        decode_time_limit: seconds without a frame after which a worker is stopped and its video
            counts as one that cannot be decoded.
        service: "HOST:PORT" of the dispatcher of a tf.data service that decodes and augments the
            records to train on, see `mvit data-service`; `None` does it here.
        allow_changed: go on training though the videos to train on are no longer those that the
            training began with; otherwise that is refused. It counts for one start.
        seed: of the validation split, the order of the videos and the augmentation.
    """

    train: str | None = None
    validation: str | None = None
    tfds_name: str | None = None
    tfds_data_dir: str | None = None
    train_split: str | None = None
    validation_split: str | None = None
    validation_fraction: ShareBelowOne = 0.0
    group_by: str | None = None
    nested: bool = False
    root: str | None = None
    separator: str | None = None
    multi_label: bool = False
    repeated_augmentation: Count = 1
    balanced_sampling: bool = False
    label_map: str | None = None
    evaluation_clips: Count = 5
    evaluation_crops: Literal[1, 3] = 1
    ensemble_method: Literal["mean", "max"] = "mean"
    evaluation_batch_size: Count | None = None
    save_views: bool = True
    shuffle_frames: bool = False
    max_failure_share: Share = 0.05
    tolerated_damage: ShareBelowOne = 0.0
    decode_threads: Count | None = None
    decode_workers: Annotated[int, Field(ge=0)] | None = None
    decode_time_limit: Annotated[Positive, Field(le=threading.TIMEOUT_MAX)] = 120.0
    service: str | None = None
    allow_changed: bool = False
    seed: Seed = 0


@dataclass(config=CHECKS)
class PretrainingSection(hyperparams.Config):
    """Learning the encoder from videos without labels, in place of a classifier.

    Labels that `data.train` has play no part then, nor do `train.label_smoothing`, the head of the
    model and what `data` says of evaluation; other keys that are about classes are refused.

    Attributes:
        method: "maskfeat" predicts the gradients of masked parts of a clip (arXiv 2112.09133), see
            `mvit_tf.pretraining`; `None` trains a classifier.
        mask_ratio: share of the places of a clip that are masked.
        mask_window: `[T, H, W]` places, each masked whole; `None` is one for each time of the
            tokens and 32 x 32 pixels, the paper's 8 x 7 x 7 for 16 frames of 224 x 224.
    """

    method: Literal["maskfeat"] | None = None
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4
    mask_window: tuple[Count, Count, Count] | None = None


@dataclass(config=CHECKS)
class TrainSection(hyperparams.Config):
    """How the weights are learned.

    Attributes:
        epochs: passes over the training videos, one clip of each a pass.
        batch_size: clips per step over all devices together.
        optimizer: "adamw", or "sgd" with Nesterov's momentum; both as in PyTorch.
        momentum: of "sgd".
        learning_rate: the peak, after the warm-up.
        warmup_epochs: epochs of linear warm-up; may be fractional.
        warmup_start_learning_rate: where the warm-up begins.
        end_learning_rate: where the cosine ends.
        base_batch_size: the batch that the learning rates are for: each is multiplied by
            batch_size / base_batch_size; `None` takes them as they are.
        head_learning_rate: the head's peak; `None` is `learning_rate`.
        layer_decay: what a layer's learning rate is multiplied by for each layer above it,
            SlowFast's SOLVER.LAYER_DECAY; 1 is one rate for all.
        weight_decay: AdamW's, or of "sgd" the L2 penalty's; none on biases, norms and other 1-D
            weights.
        label_smoothing: share of each label spread over all classes; of a multi-label set, how far
            each target goes from 0 or 1 towards a half, times two.
        class_weights: "balanced" makes the clips of each class count n / (K n_c) times, so that
            rare classes count as much as frequent ones; `None` counts all clips alike.
        clip_norm: global norm the gradient is clipped to; `None` does not clip.
        ema_decay: of the moving average of the weights that is validated and saved as the best;
            `None` keeps none. Towards the beginning it is less: (1 + t) / (10 + t) after t steps.
        gradient_accumulation_steps: parts that a batch is computed in, one after the other: the
            same step in the memory of one part.
        dtype: "float32" or "mixed_bfloat16".
        validate_every: epochs between validations (one centre view per video); the last epoch
            is always validated.
        devices: number of devices; `None` is every GPU, or one CPU. More than the machine has
            GPUs is refused; without any GPU the CPU is split. Of several machines, those of each.
        distribution_strategy: "one_device", "mirrored" (the devices of one machine),
            "multi_worker_mirrored" (several machines, which TF_CONFIG names), "tpu", or "auto":
            the one that TF_CONFIG and the devices call for.
        tpu: name of the TPU; `None` is that of this machine.
        start_timeout: seconds that the workers of several machines wait for each other at the
            start.
        remat: keep only the input of each block and compute the rest again for the gradient:
            less memory, more time, the same numbers.
        jit_compile: compile the training step by XLA; one device only.
        steps_per_execution: training steps per call of the compiled function; one device only.
        deterministic: let TensorFlow use only operations whose results repeat, where it has them;
            slower. Where it has none, training ends in its error.
        seed: of the initial weights, dropout and stochastic depth.
        save_every_steps: steps between checkpoints within an epoch; `None` counts none. Each
            epoch's end is saved too; with `data.service` only that.
        save_every_minutes: minutes between them; `None` is no clock.
        keep_checkpoints: the newest so many stay, to fall back on if the last is damaged.
        max_rollbacks: steps with a loss or gradient that is not finite, after each of which
            training goes on from the newest checkpoint without that step; 0 ends at the first, as
            does `data.service`.
        early_stopping_patience: end after so many epochs without a better validation score;
            `None` trains all epochs.
        freeze_blocks: so many blocks, from the first, are not trained, nor are patch embedding,
            class token and positions before them; the number of all blocks leaves the last norm
            and the head to train. 0 trains everything.
        lora_rank: train low-rank updates of the blocks' dense layers (LoRA, arXiv 2106.09685) and
            the head, and nothing else; with `freeze_blocks` not those of its blocks. 8 is a
            common rank. The best checkpoint and what is exported are ordinary models.
        probe: train the head alone, on features of the model that are computed once (linear
            probe), see `mvit_tf.training.probing.probe`; of this section only `batch_size`,
            `class_weights`, `dtype` and `seed` count then.
        log_interval: seconds between two lines about the steps, where the output is no terminal.
            Without effect on several machines: a line comes with each point of the curves.
        summary_interval: steps between two points of TensorBoard's curves.
        summary_clips: clips of the first batch that TensorBoard gets as moving pictures.
        summary_histograms: give TensorBoard histograms of the weights after each epoch.
    """

    epochs: Count = 200
    batch_size: Count = 8
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: ShareBelowOne = 0.9
    learning_rate: Positive = 1e-4
    warmup_epochs: NotNegative = 0.0
    warmup_start_learning_rate: NotNegative = 1e-6
    end_learning_rate: NotNegative = 1e-6
    base_batch_size: Count | None = None
    head_learning_rate: Positive | None = None
    layer_decay: PositiveShare = 1.0
    weight_decay: NotNegative = 0.05
    label_smoothing: ShareBelowOne = 0.1
    class_weights: Literal["balanced"] | None = None
    clip_norm: Positive | None = 1.0
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    gradient_accumulation_steps: Count = 1
    dtype: Literal["float32", "mixed_bfloat16"] = "float32"
    validate_every: Count = 1
    devices: Count | None = None
    distribution_strategy: Literal[
        "auto", "one_device", "mirrored", "multi_worker_mirrored", "tpu"
    ] = "auto"
    tpu: str | None = None
    start_timeout: Positive = 600.0
    remat: bool = False
    jit_compile: bool = False
    steps_per_execution: Count = 1
    deterministic: bool = False
    seed: Seed = 0
    save_every_steps: Count | None = None
    save_every_minutes: Positive | None = 10.0
    keep_checkpoints: Count = 2
    max_rollbacks: Annotated[int, Field(ge=0)] = 3
    early_stopping_patience: Count | None = None
    freeze_blocks: Annotated[int, Field(ge=0)] = 0
    lora_rank: Count | None = None
    probe: bool = False
    log_interval: Positive = 30.0
    summary_interval: Count = 20
    summary_clips: Annotated[int, Field(ge=0)] = 0
    summary_histograms: bool = False
