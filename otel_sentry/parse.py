"""Text -> value, for the settings table. Each raises ValueError that says what was expected."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from typing import Any

_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE = frozenset({"0", "false", "no", "off", "f", "n"})


def boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("expected true or false")


def number(low: float, high: float) -> Callable[[str], float]:
    def parse_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # also refuses nan
            raise ValueError(f"expected a number from {low} to {high}")
        return value

    return parse_number


rate = number(0.0, 1.0)


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse_whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return parse_whole


def choice(*allowed: str) -> Callable[[str], str]:
    def parse_choice(text: str) -> str:
        word = text.strip().lower()
        if word not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return word

    return parse_choice


def names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def patterns(text: str) -> tuple[str, ...]:
    found = names(text)
    for pattern in found:
        try:
            re.compile(pattern)
        except re.error as exc:
            raise ValueError(f"expected regular expressions; {pattern!r} is none ({exc})") from None
    return found


def spotlight(text: str) -> str | None:
    """``1`` means the sidecar's default address; a URL is taken as it is; ``0`` is off."""
    word = text.strip()
    if word.lower() in _FALSE:
        return None
    if word.lower() in _TRUE:
        return "http://localhost:8969/stream"
    if word.startswith(("http://", "https://")):
        return word
    raise ValueError("expected 1 or a URL such as http://localhost:8969/stream")


class LazyHook:
    """A user's function named ``package.module:function``, imported at its first call.

    Not earlier: such modules import Django models, and settings are read before Django is ready.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._function: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            self._function = load_object(self.path)
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return self.path


def hook(text: str) -> LazyHook:
    module, _, function = text.partition(":")
    if not module or not function or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError("expected package.module:function")
    return LazyHook(text)


def load_object(path: str) -> Any:
    """Import ``package.module:attribute``.

    Raises:
        ImportError, AttributeError: it is not there.

    """
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
