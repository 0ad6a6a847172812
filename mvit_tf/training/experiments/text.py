"""What an experiment file and `--params_override` say, as nested dictionaries.

YAML with three differences: a key given twice is refused, `1e-4` is a number, and a key that
wants text keeps the text as it was written, where YAML makes a number of the folder `007`, a
date of `2024-01-15` and a truth value of `no`.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from mvit_tf.errors import UserError
from mvit_tf.remote_path import as_path

OVERRIDE_SOURCE = "--params_override"
_NULLS = ("", "~", "null", "Null", "NULL")

# One `section.key=value`; the value is quoted, a list in brackets, or all up to the next comma.
_PAIR = re.compile(
    r"""\s* (?P<key>[A-Za-z][\w.]*) \s*=\s*
    (?P<value> '[^']*' | "[^"]*" | \[[^\]]*\] | [^,\['"][^,]* | ) \s* (?:,|$)""",
    re.VERBOSE,
)


def read_yaml(path: str | Path, text_keys: Collection[str]) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Args:
        text_keys: dotted names of the keys whose values are text.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    path = as_path(path)
    if path.is_dir():
        raise UserError(f"config file {path} is a folder; give a YAML file in it")
    if not path.is_file():
        raise UserError(f"config file {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"config file {path} is not a text file in UTF-8") from error
    values = _parse(text, text_keys, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections with keys, got {values!r}")
    return values


def parse_overrides(text: str, text_keys: Collection[str]) -> dict[str, Any]:
    """Nested mappings of `"a.b=1,a.c=[2,3]"` or of YAML; `text_keys` as in `read_yaml`.

    Raises:
        UserError: the text is neither.
    """
    if not text.strip():
        return {}
    pairs = _split(text)
    if pairs is None:
        values = _parse(text, text_keys, OVERRIDE_SOURCE)
        if not isinstance(values, dict):
            raise UserError(
                f"{OVERRIDE_SOURCE}={text!r} is neither 'section.key=value,...' nor YAML; for "
                "example train.epochs=3,data.train=/videos; a value with a comma is quoted: "
                "data.train='/videos/a,b'"
            )
        return values
    values = {}
    for key, value in pairs:
        *sections, name = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"{OVERRIDE_SOURCE}: {key} is given beside {section}={place!r}")
        if name in place:
            raise UserError(f"{OVERRIDE_SOURCE}: key {key!r} is given twice")
        is_text = key in text_keys and value[:1] not in ("'", '"') and value not in _NULLS
        place[name] = value if is_text else _parse(value, (), f"{OVERRIDE_SOURCE}: {key}")
    return values


def _split(text: str) -> list[tuple[str, str]] | None:
    """The pairs of `"a.b=1,a.c=2"`, or `None` where the text is not of this form."""
    pairs, position = [], 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None:
            return None
        pairs.append((pair["key"], pair["value"].strip()))
        position = pair.end()
    return pairs


class _Loader(yaml.SafeLoader):
    """YAML that keeps the text of `text_keys` and refuses a key given twice."""

    def __init__(self, text: str, text_keys: Collection[str]):
        super().__init__(text)
        self._text_keys = text_keys

    def get_single_node(self):
        node = super().get_single_node()
        self._keep_text(node, "")
        return node

    def _keep_text(self, node, name: str):
        if isinstance(node, yaml.ScalarNode) and name in self._text_keys:
            if node.tag != "tag:yaml.org,2002:null":
                node.tag = "tag:yaml.org,2002:str"
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = f"{name}.{key.value}" if name else str(key.value)
                if any(text_key.startswith(inner) for text_key in self._text_keys):
                    self._keep_text(value, inner)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if repr(key) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(repr(key))
        return super().construct_mapping(node, deep)


# YAML 1.1 wants a point and a sign in a number with an exponent.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _parse(text: str, text_keys: Collection[str], source: str) -> Any:
    loader = _Loader(text, text_keys)
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = where + " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{source}: not valid YAML: {problem}") from error
