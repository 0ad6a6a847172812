"""YAML and override strings turned into checked values of typed dataclasses.

What a YAML reader lets pass is refused: an unknown key (with the nearest known one), a key given
twice, a value of the wrong type or out of its range.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from official.modeling import hyperparams

from mvit_tf.errors import UserError

OVERRIDE_SOURCE = "--params_override"


def option(
    default: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    choices: tuple | None = None,
    length: int | None = None,
):
    """A dataclass field with its legal range; for a list the range holds for each element."""
    limits = {
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "below": below,
        "choices": choices,
        "length": length,
    }
    metadata = {name: limit for name, limit in limits.items() if limit is not None}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"config file {path} is a folder; give a YAML file in it")
    if not path.is_file():
        raise UserError(f"config file {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"config file {path} is not a text file in UTF-8") from error
    values = _parse_yaml(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections with keys, got {values!r}")
    return values


def parse_overrides(text: str) -> dict[str, Any]:
    """Turns `"a.b=1,a.c=[2,3]"` or YAML into nested mappings.

    Raises:
        UserError: the text is neither.
    """
    if not text.strip():
        return {}
    try:
        text_as_yaml = hyperparams.params_dict.nested_csv_str_to_json_str(text)
    except ValueError:
        text_as_yaml = text
    values = _parse_yaml(text_as_yaml, OVERRIDE_SOURCE)
    if not isinstance(values, dict):
        raise UserError(
            f"{OVERRIDE_SOURCE}={text!r} is neither 'section.key=value,...' nor YAML; "
            "for example train.epochs=3,data.train=/videos"
        )
    return values


def check_sections(
    values: Mapping[str, Any], sections: Mapping[str, type], source: str
) -> dict[str, dict[str, Any]]:
    """Checks names and types of everything two levels deep.

    Args:
        values: section name -> key -> value.
        sections: section name -> dataclass of its keys.
        source: where the values come from, for messages.

    Returns:
        The values, converted to their declared types.

    Raises:
        UserError: a key or value is refused.
    """
    checked = {}
    for section, keys in values.items():
        if section not in sections:
            raise UserError(_unknown_section(str(section), sections, source))
        if keys is None:
            continue
        if not isinstance(keys, dict):
            raise UserError(f"{source}: section '{section}' must hold keys, got {keys!r}")
        for key in keys:
            if key not in _field_names(sections[section]):
                raise UserError(_unknown_key(section, str(key), sections, source))
        checked[section] = check_fields(keys, sections[section], section, source)
    return checked


def check_fields(
    keys: Mapping[str, Any], dataclass: type, prefix: str, source: str
) -> dict[str, Any]:
    """Checks the values of some fields of a dataclass; the names must be known already."""
    fields = {field.name: field for field in dataclasses.fields(dataclass)}
    hints = typing.get_type_hints(dataclass)
    return {
        key: _typed(value, hints[key], fields[key].metadata, f"{prefix}.{key}", source)
        for key, value in keys.items()
    }


def did_you_mean(word: str, known: Sequence[str], prefix: str = "") -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if matches:
        return f"did you mean '{prefix}{matches[0]}'?"
    return f"known: {', '.join(known)}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice; PyYAML silently keeps the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = where + " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{source}: not valid YAML: {problem}") from error


def _typed(value, hint, limits: Mapping, name: str, source: str) -> Any:
    """The value as its annotation wants it."""
    if typing.get_origin(hint) is types.UnionType:
        if value is None:
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) in (list, tuple):
        return _typed_list(value, hint, limits, name, source)
    if isinstance(hint, type) and issubclass(hint, hyperparams.Config):
        if not isinstance(value, dict | None):
            raise UserError(f"{source}: {name} must hold keys, got {value!r}")
        return value or {}
    converted = _convert(value, hint)
    if converted is None:
        raise UserError(f"{source}: {name} must be of type {hint.__name__}, got {value!r}")
    _check_range(converted, limits, name, source)
    return converted


def _typed_list(value, hint, limits: Mapping, name: str, source: str) -> list:
    elements = typing.get_args(hint)
    length = limits.get("length", len(elements) if Ellipsis not in elements else None)
    fits = isinstance(value, list | tuple) and length in (None, len(value))
    if not fits:
        count = "" if length is None else f"{length} "
        raise UserError(
            f"{source}: {name} must be a list of {count}{elements[0].__name__} values, "
            f"got {value!r}"
        )
    return [_typed(element, elements[0], limits, name, source) for element in value]


def _convert(value, wanted: type) -> Any:
    """The value as `wanted`, or `None` where it is not one."""
    if isinstance(value, bool) is not (wanted is bool):
        return None
    if wanted is float:
        try:
            return float(value)  # YAML 1.1 reads 1e-4 as a string
        except (TypeError, ValueError):
            return None
    if wanted is str and isinstance(value, int | float):
        return str(value)  # a folder called 2024
    return value if isinstance(value, wanted) else None


def _check_range(value, limits: Mapping, name: str, source: str):
    rules = {
        "choices": ("one of {}", lambda limit: value in limit),
        "minimum": ("at least {}", lambda limit: value >= limit),
        "above": ("greater than {}", lambda limit: value > limit),
        "maximum": ("at most {}", lambda limit: value <= limit),
        "below": ("less than {}", lambda limit: value < limit),
    }
    for rule, (words, holds) in rules.items():
        if rule in limits and not holds(limits[rule]):
            limit = limits[rule]
            shown = ", ".join(map(str, limit)) if rule == "choices" else limit
            raise UserError(f"{source}: {name} must be {words.format(shown)}, got {value!r}")


def _unknown_section(name: str, sections: Mapping[str, type], source: str) -> str:
    for section, dataclass in sections.items():
        if name in _field_names(dataclass):
            return f"{source}: unknown section '{name}'; did you mean the key '{section}.{name}'?"
    return f"{source}: unknown section '{name}'; {did_you_mean(name, list(sections))}"


def _unknown_key(section: str, key: str, sections: Mapping[str, type], source: str) -> str:
    message = f"{source}: unknown key '{section}.{key}'; "
    for other, dataclass in sections.items():
        if key in _field_names(dataclass):
            return f"{message}did you mean '{other}.{key}'?"
    return message + did_you_mean(key, _field_names(sections[section]), f"{section}.")


def _field_names(dataclass: type) -> list[str]:
    return [field.name for field in dataclasses.fields(dataclass)]
