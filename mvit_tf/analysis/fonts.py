"""Fonts that have the characters of a text: names are in any script."""

import functools
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from absl import logging
from matplotlib import font_manager

_CUT = "…"


def cut(text: str, longest: int) -> str:
    """A text of at most so many characters; the rest is cut off."""
    return text if len(text) <= longest else text[: longest - 1] + _CUT


def fonts_for(text: str) -> list[str] | None:
    """Families of installed fonts that draw `text`, cut or not; `None` if one lacks in all."""
    families, missing = _families(text)
    return None if missing else families


def drawable(*texts: str) -> tuple[list[str], list[str]]:
    """Texts as they can be drawn: a character that is in no installed font becomes its number.

    Returns:
        The texts, `\\u3042` for such a character, and the families of fonts that draw them.
    """
    families, missing = _families("".join(texts).replace("\n", ""))
    return [_numbered(text, missing) for text in texts], families


# A computer may have a thousand fonts; the labels of a video come again and again.
@functools.lru_cache(maxsize=1024)
def font_file_for(text: str) -> tuple[str, str]:
    """The file of a font for all of a text, and the text as `drawable` where there is none."""
    needed, default = set(map(ord, text + _CUT)), next(_fonts())[0]
    for path, _ in _fonts():
        if needed <= _characters(path):
            return path, text
    return default, _numbered(text, needed - _characters(default))


def _families(text):
    """Families of fonts, and the characters of the text, cut or not, that are in none."""
    missing, families = set(map(ord, text + _CUT)), []
    for path, family in _fonts():
        if not missing:
            break
        if found := missing & _characters(path):
            families.append(family)
            missing -= found
    if missing:
        logging.log_first_n(
            logging.WARNING,
            f"pictures: no installed font has {' '.join(map(chr, sorted(missing)[:5]))!r}; "
            "install one that does, such as Noto",
            1,
        )
    return families, missing


def _numbered(text, characters):
    return "".join(
        c.encode("ascii", "backslashreplace").decode() if ord(c) in characters else c for c in text
    )


def _fonts() -> Iterator[tuple[str, str]]:
    """File and family of Matplotlib's default font, of those it knows, then of any other."""
    default = font_manager.FontProperties()
    yield font_manager.findfont(default), default.get_name()
    known = [(font.fname, font.name) for font in font_manager.fontManager.ttflist]
    yield from known
    # Matplotlib looks for fonts once and keeps its list in a file that all environments of a user
    # share. What was not there at that moment is missing for good, even a font of its own.
    own = Path(matplotlib.get_data_path(), "fonts", "ttf")
    there = font_manager.findSystemFonts([str(own)]) + font_manager.findSystemFonts()
    for path in sorted(set(there) - {path for path, _ in known}):
        if _characters(path):
            font_manager.fontManager.addfont(path)
            yield path, font_manager.fontManager.ttflist[-1].name


def _characters(font_path: str) -> set[int]:
    """The code points that a font draws; none if it cannot be used."""
    try:
        font = font_manager.get_font(font_path)
    except (OSError, RuntimeError):  # Uninstalled since Matplotlib listed it; or a colour font.
        return set()
    # "Last Resort" has a box for every character there is.
    if not font.scalable or font.family_name.startswith("Last Resort"):
        return set()
    return set(font.get_charmap())
