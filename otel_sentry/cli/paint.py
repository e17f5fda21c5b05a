"""Colours for the terminal, and none elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

#: Paints text with a style's name; the plain one returns it as it is.
Paint = Callable[[str, str], str]

_CODES = {"dim": "2", "bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def plain(text: str, style: str) -> str:
    """No colour."""
    return text


def ansi(text: str, style: str) -> str:
    """ANSI colours."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def paint_for(stream: TextIO) -> Paint:
    """Colours if *stream* is a terminal and NO_COLOR is not set (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return plain
    return ansi
