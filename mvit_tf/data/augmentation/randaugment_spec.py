"""RandAugment's settings as timm and SlowFast write them; readable without TensorFlow."""

import re

from mvit_tf.errors import UserError
from mvit_tf.typed import Count, PositiveShare, frozen_dataclass

# The strongest magnitude; every transform's range is spread over 0 to here.
MAX_MAGNITUDE = 10
# timm takes a larger standard deviation for a uniform draw.
_MAX_MAGNITUDE_STD = 100
_FORM = "rand-m7-n4-mstd0.5-inc1"
_PART = re.compile(r"(mstd|m|n|p)(\d+(?:\.\d+)?)")


@frozen_dataclass
class RandAugmentSpec:
    """How strongly and how often clips are changed.

    Args:
        magnitude: float, 0 to 10. Mean strength of a transform.
        num_layers: int. Transforms drawn for a clip, one after the other, with replacement.
        magnitude_std: float, 0 to 100. Standard deviation of the strength.
        prob: float. Probability that a drawn transform is applied.

    Raises:
        UserError: a value out of range.
    """

    magnitude: float = MAX_MAGNITUDE
    num_layers: Count = 2
    magnitude_std: float = 0.0
    prob: PositiveShare = 0.5

    def __post_init__(self):
        for name, most in (("magnitude", MAX_MAGNITUDE), ("magnitude_std", _MAX_MAGNITUDE_STD)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f"{name} must be 0 to {most}, got {getattr(self, name):g}")

    @classmethod
    def parse(cls, text):
        """Reads timm's form, "rand-m7-n4-mstd0.5-inc1", with timm's defaults.

        After "rand" come, in any order, m (magnitude), n (layers), mstd (standard deviation), p
        (probability), and always inc1: the transforms that grow with the magnitude, the only
        ones there are here.

        Raises:
            UserError: it cannot be read, or a value is out of range.
        """
        head, *parts = text.split("-")
        if head != "rand" or parts.count("inc1") != 1:
            raise UserError(
                f"rand_augment={text!r} must start with 'rand' and hold 'inc1' once, "
                f"for example {_FORM}"
            )
        parts.remove("inc1")
        values = {}
        for part in parts:
            match = _PART.fullmatch(part)
            if match is None or match[1] in values:
                problem = "is there twice" if match else "is not known"
                raise UserError(
                    f"rand_augment={text!r}: {part!r} {problem}; the parts are m, n, mstd and p "
                    f"with a number, and inc1, for example {_FORM}"
                )
            values[match[1]] = match[2]
        if "." in values.get("n", ""):
            raise UserError(f"rand_augment={text!r}: n must be a whole number")
        fields = {"m": "magnitude", "mstd": "magnitude_std", "p": "prob"}
        numbers = {fields[key]: float(values[key]) for key in fields if key in values}
        if "n" in values:
            numbers["num_layers"] = int(values["n"])
        try:
            return cls(**numbers)
        except UserError as error:
            raise UserError(f"rand_augment={text!r}: {error}") from error
