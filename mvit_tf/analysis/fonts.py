"""Fonts that have the characters of a text: names are in any script."""

import functools
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib import font_manager


def fonts_for(text: str) -> list[str] | None:
    """Families of installed fonts that together draw `text`; `None` if a character is in none."""
    missing, families = set(map(ord, text)), []
    for path, family in _fonts():
        if not missing:
            break
        if found := missing & _characters(path):
            families.append(family)
            missing -= found
    return None if missing else families


# A computer may have a thousand fonts; the labels of a video come again and again.
@functools.lru_cache(maxsize=1024)
def font_file_for(text: str) -> str | None:
    """The file of an installed font that draws all of `text`; `None` if no single one does."""
    needed = set(map(ord, text))
    return next((path for path, _ in _fonts() if needed <= _characters(path)), None)


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
