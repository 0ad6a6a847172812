"""A study as typed data: the variants that are compared, and what is claimed of them."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mvit_tf.data.moving_shapes import HARD_SHAPES, MovingShapes
from mvit_tf.errors import UserError, did_you_mean
from mvit_tf.training.experiments.experiment import Experiment, load_experiment, merge_overrides
from mvit_tf.training.experiments.files import package_configs
from mvit_tf.training.experiments.text import OVERRIDE_SOURCE, read_yaml
from mvit_tf.typed import Count, Percent, Positive, PositiveShare, frozen_dataclass

# No names of variants: the training without labels, and what a study says of its videos.
PRETRAINING, VIDEOS = "pretraining", "videos"
SCORES = ("accuracy", "shuffled", "cost_of_shuffling")
# What a study sets of each run itself.
_OF_RUNS = {
    "train": ("seed",),
    "data": ("seed", "train", "train_split", "validation", "validation_split"),
}
_FOLDER_NAME = re.compile(r"\w[\w.-]{0,59}")
# NumPy's and Keras' seeds have 32 bits.
_SEEDS_END = 2**32


@frozen_dataclass
class Published:
    """What a paper's table says of a variant; None where it says nothing.

    Args:
        accuracy, shuffled: per cent, 0 to 100, with the frames of a clip in order and shuffled.
        gmacs: multiply-adds of a clip in units of 1e9.
        mparams: parameters in millions.
    """

    accuracy: Percent | None = None
    shuffled: Percent | None = None
    gmacs: Positive | None = None
    mparams: Positive | None = None


@frozen_dataclass
class Variant:
    """One row of the table.

    Args:
        params: keys over the study's, in the form of --params_override.
        label_share: share of each class's training videos that is trained on.
        pretrained: whether it starts from the study's pre-training of the same seed.
        published: the paper's row.
    """

    params: str = ""
    label_share: PositiveShare = 1.0
    pretrained: bool = False
    published: Published = Published()


@frozen_dataclass
class Claim:
    """That one variant scores more than another.

    Args:
        says: the claim in words.
        greater, less: names of two variants.
        score: "accuracy", "shuffled" (accuracy with shuffled frames), or "cost_of_shuffling", the
            difference of the two.
    """

    says: str
    greater: str
    less: str
    score: Literal["accuracy", "shuffled", "cost_of_shuffling"] = "accuracy"


@frozen_dataclass
class Pretraining:
    """A training without labels that variants start from, one for each seed.

    Args:
        params: keys over the study's, in the form of --params_override.
        minutes: of one, on two processors.
    """

    params: str
    minutes: Positive


@frozen_dataclass
class VideosPerClass:
    """Videos to make of each class, to train on and to be scored on."""

    train: Count = 40
    test: Count = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What `load_study` reads.

    Attributes:
        name: of the file.
        title: what is compared.
        paper: paper and table that the published numbers are of.
        base: file of the experiment that all variants are built upon.
        params: keys over it, in the form of --params_override.
        minutes: of a run, on two processors.
        seeds: of the runs of each variant.
        shuffled: whether each run is scored with shuffled frames too.
        own_videos: whether it is of somebody's own videos and makes none.
        videos_per_class: to make where the videos are not given.
        shapes: what they show; keys of the file are over those of `HARD_SHAPES`.
        variants: by name, in the order of the table.
        claims: about them.
        pretraining: that some of them start from, or None.
    """

    name: str
    title: str
    paper: str
    base: Path
    params: str
    minutes: float
    seeds: tuple[int, ...]
    shuffled: bool
    own_videos: bool
    videos_per_class: VideosPerClass
    shapes: MovingShapes
    variants: Mapping[str, Variant]
    claims: tuple[Claim, ...]
    pretraining: Pretraining | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is trained: `PRETRAINING`, if there is one, and the variants."""
        return (*([PRETRAINING] if self.pretraining else []), *self.variants)

    def experiments(self, params: str) -> dict[str, Experiment]:
        """What is trained, by `names`.

        Args:
            params: keys over those of every run, in the form of --params_override.
        """
        return {
            name: load_experiment(self.base, merge_overrides(self.overrides_of(name), params))
            for name in self.names
        }

    def overrides_of(self, variant: str) -> str:
        """The keys of a variant over the base experiment, or of `PRETRAINING`."""
        own = self.pretraining if variant == PRETRAINING else self.variants[variant]
        return merge_overrides(self.params, own.params)

    def expected_minutes(self, num_seeds: int) -> float:
        """Of all runs, on two processors."""
        return num_seeds * sum(map(self.minutes_of, self.names))

    def minutes_of(self, name: str) -> float:
        """Of a run of one of `names`, on two processors."""
        return self.pretraining.minutes if name == PRETRAINING else self.minutes


def package_studies() -> dict[str, Path]:
    """The files of the studies that come with the package, by name."""
    folder = package_configs()["demo"].parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_study(name: str) -> Path:
    """The file of a study: a path, or the name of one of the package.

    Raises:
        UserError: there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    studies = package_studies()
    if name.removesuffix(".yaml") in studies:
        return studies[name.removesuffix(".yaml")]
    raise UserError(
        f"there is no study {name!r}, neither a file nor one of the package; "
        f"{did_you_mean(name.removesuffix('.yaml'), studies)}"
    )


def check_free_keys(params: str, where: str):
    """Refuses keys that a study sets of each run itself.

    Args:
        params: in the form of --params_override.
        where: they are given, for the message.

    Raises:
        UserError: naming the key.
    """
    given = json.loads(merge_overrides(params))
    for section, keys in _OF_RUNS.items():
        for key in keys:
            if key in given.get(section, {}):
                raise UserError(
                    f"{where}: {section}.{key} is set by the study, for each run; --data gives "
                    "other videos, seeds other seeds"
                )


def load_study(path: Path) -> Study:
    """Reads the YAML file of a study and checks every variant's experiment.

    Raises:
        UserError: the file is missing or not YAML, or a key or value is refused.
    """
    values = read_yaml(path, ())
    _check_keys(values, _KEYS, f"{path}:")
    for key in ("title", "paper", "base", "minutes", "seeds", "variants"):
        if values.get(key) is None:
            raise UserError(f"{path}: {key} is missing")
    _check_plain_values(values, path)
    variants = {
        str(name): _variant(keys, f"{path}: variants.{name}:")
        for name, keys in _mapping(values["variants"], f"{path}: variants").items()
    }
    pretraining = values.get("pretraining")
    shapes = _mapping(values.get("shapes"), f"{path}: shapes")
    _check_keys(shapes, _fields(MovingShapes), f"{path}: shapes:")
    study = Study(
        name=Path(path).stem,
        title=str(values["title"]),
        paper=str(values["paper"]),
        base=_base(path, values["base"]),
        params=values.get("params") or "",
        minutes=float(values["minutes"]),
        seeds=tuple(values["seeds"]),
        shuffled=values.get("shuffled", False),
        own_videos=values.get("own_videos", False),
        videos_per_class=_made(
            VideosPerClass, values.get("videos_per_class"), f"{path}: videos_per_class:"
        ),
        shapes=_shapes(shapes, f"{path}: shapes:"),
        variants=variants,
        claims=tuple(
            _made(Claim, keys, f"{path}: claims[{number}]:")
            for number, keys in enumerate(values.get("claims") or ())
        ),
        pretraining=pretraining and _made(Pretraining, pretraining, f"{path}: pretraining:"),
    )
    _check_study(study, path)
    return study


def _check_plain_values(values, path):
    seeds, minutes = values["seeds"], values["minutes"]
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not (whole and seeds) or max(seeds) >= _SEEDS_END:
        raise UserError(
            f"{path}: seeds must be one or more whole numbers from 0 to 2**32 - 1, got {seeds}"
        )
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{path}: seeds must differ, got {seeds}")
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not minutes > 0:
        raise UserError(f"{path}: minutes must be a number above 0, got {minutes!r}")
    for key in ("shuffled", "own_videos"):
        if not isinstance(values.get(key, False), bool):
            raise UserError(f"{path}: {key} must be true or false, got {values[key]!r}")
    if not isinstance(values.get("params") or "", str):
        raise UserError(f"{path}: params must be text, got {values['params']!r}")


def _shapes(values, where) -> MovingShapes:
    try:
        return dataclasses.replace(
            HARD_SHAPES, **{key: _tuple(value) for key, value in values.items()}
        )
    except UserError as error:
        raise UserError(f"{where} {error}") from error


def _base(path, name) -> Path:
    beside = Path(path).parent / str(name)
    if beside.is_file():
        return beside
    configs = package_configs()
    if name not in configs:
        raise UserError(
            f"{path}: base={name} is neither a file nor an experiment of the package; "
            f"{did_you_mean(str(name), configs)}"
        )
    return configs[name]


def _check_study(study: Study, path):
    if not study.variants or {PRETRAINING, VIDEOS} & study.variants.keys():
        raise UserError(
            f"{path}: variants must be one or more, none of them '{PRETRAINING}' or '{VIDEOS}'"
        )
    for name in study.variants:
        if not _FOLDER_NAME.fullmatch(name):
            raise UserError(
                f"{path}: variants: {name!r} becomes a folder's name; write letters, digits, '_', "
                "'-' and '.', at most 60"
            )
    if study.pretraining is None and any(v.pretrained for v in study.variants.values()):
        raise UserError(f"{path}: a variant is pretrained, and there is no section pretraining")
    for claim in study.claims:
        for name in (claim.greater, claim.less):
            if name not in study.variants:
                raise UserError(
                    f"{path}: claims: no variant {name!r}; {did_you_mean(name, study.variants)}"
                )
        if claim.greater == claim.less:
            raise UserError(f"{path}: claims: {claim.greater!r} is compared with itself")
        if claim.score != SCORES[0] and not study.shuffled:
            raise UserError(f"{path}: claims: score={claim.score} needs shuffled: true")
    for name in study.names:
        try:
            check_free_keys(study.overrides_of(name), "params")
            experiment = load_experiment(study.base, study.overrides_of(name))
        except UserError as error:
            # To the experiment they are overrides; to who wrote the study, its `params`.
            reason = str(error).replace(OVERRIDE_SOURCE, "params")
            raise UserError(f"{path}: {name}: {reason}") from error
        if (experiment.pretraining.method is not None) != (name == PRETRAINING):
            wanted = "maskfeat" if name == PRETRAINING else "null"
            raise UserError(
                f"{path}: {name}: pretraining.method must be {wanted}, "
                f"got {experiment.pretraining.method}"
            )


def _variant(values, where) -> Variant:
    values = _mapping(values, where)
    published = _made(Published, values.pop("published", None), f"{where} published:")
    return _made(Variant, {**values, "published": published}, where)


def _made(cls, values, where):
    values = _mapping(values, where)
    _check_keys(values, _fields(cls), where)
    missing = [
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise UserError(f"{where} {missing[0]} is missing")
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{where} {error}") from error


def _mapping(values: Any, where: str) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{where} must hold keys, got {values!r}")
    return dict(values)


def _check_keys(values, known, where):
    for key in values:
        if key not in known:
            raise UserError(f"{where} unknown key {key!r}; {did_you_mean(str(key), known)}")


def _fields(cls):
    return tuple(field.name for field in dataclasses.fields(cls))


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


_KEYS = tuple(name for name in _fields(Study) if name != "name")
