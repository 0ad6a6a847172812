"""Values whose types and ranges pydantic checks, and its refusals in one line.

Types are strict: no number is made of a text, and none of a truth value. Infinity and NaN are
refused whatever the range.
"""

import functools
import inspect
import types
import typing
from typing import Annotated

import numpy as np
import pydantic
from pydantic import BeforeValidator, Field, Strict
from pydantic.dataclasses import dataclass

from mvit_tf.errors import UserError

CHECKS = pydantic.ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

Count = Annotated[
    int, BeforeValidator(lambda n: int(n) if isinstance(n, np.integer) else n), Field(ge=1)
]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
# A list may stand for a tuple; its elements are as strict as any value.
Size = Annotated[tuple[Count, Count], Strict(False)]
Range = Annotated[tuple[Positive, Positive], Strict(False)]
ShareRange = Annotated[tuple[PositiveShare, PositiveShare], Strict(False)]
Channels = Annotated[tuple[float, float, float], Strict(False)]
PositiveChannels = Annotated[tuple[Positive, Positive, Positive], Strict(False)]

_LIMITS = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "greater than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "finite_number": "a finite number",
}


@typing.dataclass_transform(frozen_default=True)
def frozen_dataclass(cls):
    """A frozen dataclass whose constructor checks its values and raises `UserError`."""
    cls = dataclass(cls, frozen=True, config=CHECKS)
    make, signature = cls.__init__, inspect.signature(cls)

    @functools.wraps(make)
    def __init__(self, *args, **kwargs):
        # By name, so that what is refused has one.
        values = signature.bind(*args, **kwargs).arguments
        try:
            make(self, **values)
        except pydantic.ValidationError as error:
            raise UserError(refusal(error, cls, "{name}={value!r} must be {wanted}")) from error

    cls.__init__ = __init__
    return cls


def refusal(
    error: pydantic.ValidationError, cls: type, form: str = "{name} must be {wanted}, got {value!r}"
) -> str:
    """The first thing that pydantic refused in values for `cls`, in words."""
    first = error.errors(include_url=False)[0]
    kind, path, value, context = first["type"], first["loc"], first["input"], first.get("ctx", {})
    if isinstance(context.get("error"), UserError):
        return str(context["error"])
    if kind == "missing":
        path = path[:-1]  # An element that a list is too short for: the list is wrong.
    hint = _hint(cls, path)
    if kind in _LIMITS:
        value = float(value) if hint is float else value
        wanted = _LIMITS[kind].format(**context)
    else:
        wanted = _in_words(hint)
    return form.format(name=_name(path), value=value, wanted=wanted)


def _name(path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]


def _hint(hint, path):
    """The annotation of what lies at `path` in a class, without limits and `None`."""
    for part in path:
        if isinstance(part, str):
            hint = typing.get_type_hints(hint)[part]
        else:
            hint = typing.get_args(hint)[0 if Ellipsis in typing.get_args(hint) else part]
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            hint = typing.get_args(hint)[0]
    return hint


def _in_words(hint) -> str:
    arguments = [part for part in typing.get_args(hint) if part is not Ellipsis]
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if typing.get_origin(hint) is tuple:
        count = "" if Ellipsis in typing.get_args(hint) else f"{len(arguments)} "
        return f"a list of {count}{arguments[0].__name__} values"
    return f"of type {hint.__name__}"
