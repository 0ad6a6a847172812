"""What is done to the frames of a video: plain data, readable without TensorFlow."""

import dataclasses
from typing import Literal

from mvit_tf.data.augmentation.randaugment_spec import RandAugmentSpec
from mvit_tf.errors import UserError
from mvit_tf.typed import (
    Channels,
    Count,
    NotNegative,
    PositiveChannels,
    Range,
    Share,
    ShareRange,
    Size,
    frozen_dataclass,
)

CROPS = ("left", "center", "right")


@frozen_dataclass
class Preprocessing:
    """Geometry and normalisation of the model's input.

    Args:
        size: (height, width) of the frames the model takes.
        short_side: int. The shorter side of a frame after the resize that goes before the crop.
        mean, std: three floats each, for pixel values in [0, 1], in `channel_order`.
        channel_order: "rgb", or "bgr" for weights trained on frames read that way.
        interpolation: of every resize: "bilinear" without antialiasing, as SlowFast resizes
            videos, or "bicubic" with it, as Pillow does and the ImageNet recipes with it.

    Raises:
        UserError: a value out of range.
    """

    size: Size
    short_side: Count = 256
    mean: Channels = (0.45, 0.45, 0.45)
    std: PositiveChannels = (0.225, 0.225, 0.225)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self):
        if self.short_side < min(self.size):
            raise UserError(
                f"short_side {self.short_side} is smaller than the crop {self.size} taken from "
                f"it; give at least {min(self.size)}"
            )

    def with_short_side(self, short_side):
        """The same with another `short_side`."""
        return dataclasses.replace(self, short_side=short_side)

    def to_dict(self):
        """The fields as plain data, for JSON or YAML."""
        fields = dataclasses.asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}

    @classmethod
    def from_dict(cls, fields):
        """The inverse of `to_dict`."""
        return cls(**fields)


@frozen_dataclass
class Augmentation:
    """Random changes of training clips. The names and meanings beyond `flip` are timm's.

    Args:
        scale: (least, most) share of the frame's area that the random box covers.
        ratio: (least, most) ratio of the box's width to its height.
        flip: bool. Mirror half of the clips; leave out where left and right matter.
        rand_augment: RandAugment's settings, such as "rand-m7-n4-mstd0.5-inc1" (see
            `RandAugmentSpec.parse`); `None` is off.
        color_jitter: float. How far brightness, contrast and saturation go from 1; 0 is off.
        grayscale: float. Probability that a clip loses its colour; 0 is off.
        blur: float. Probability that a clip is blurred; 0 is off. Needs the extra `io`.
        blur_sigma: (least, most) standard deviation of the blur, in pixels.
        random_erasing: float. Probability that a box of all frames becomes noise; 0 is off.
        mixup_alpha: float. MixUp's weight is drawn from Beta(alpha, alpha); 0 is off.
        cutmix_alpha: float. The same of CutMix.
        mixup_switch_prob: float. Where both are on, probability of CutMix instead of MixUp.
        mixup_prob: float. Probability that a batch is mixed, where either is on.

    Raises:
        UserError: a value out of range.
    """

    scale: ShareRange = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    flip: bool = True
    rand_augment: str | None = None
    color_jitter: NotNegative = 0.0
    grayscale: Share = 0.0
    blur: Share = 0.0
    blur_sigma: Range = (0.1, 2.0)
    random_erasing: Share = 0.0
    mixup_alpha: NotNegative = 0.0
    cutmix_alpha: NotNegative = 0.0
    mixup_switch_prob: Share = 0.5
    mixup_prob: Share = 1.0

    def __post_init__(self):
        self.rand_augment_spec()
        for name in ("scale", "ratio", "blur_sigma"):
            least, most = getattr(self, name)
            if least > most:
                raise UserError(
                    f"{name} must be (least, most), the least first, got ({least:g}, {most:g})"
                )

    def rand_augment_spec(self):
        """The settings of RandAugment; `None` where it is off."""
        if self.rand_augment is None:
            return None
        return RandAugmentSpec.parse(self.rand_augment)

    @property
    def mixes(self):
        """Whether the clips of a batch are mixed."""
        return bool(self.mixup_prob and (self.mixup_alpha or self.cutmix_alpha))
