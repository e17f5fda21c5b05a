"""Names for transactions and descriptions: routes, URLs, keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

#: Sentry cuts transaction names here, so a longer one would be grouped by its beginning anyway.
MAX_NAME = 200
#: Characters of a description or an attribute; what is beyond is replaced by one ellipsis.
MAX_TEXT = 8192

_CONVERTER = re.compile(r"<(?:[^>:]+:)?([^>]+)>")
_ANCHORS = re.compile(r"\\[AZz]|(?<![\[\\])[\^$]")
_LOOKS_LIKE_REGEX = re.compile(r"[\^$]|\(\?|\\")


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """At most *limit* characters, the last of them an ellipsis when something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


@lru_cache(1024)
def django_route(route: str, style: str = "otel") -> str:
    """Django's route as a transaction name has it.

    Style `otel` keeps OpenTelemetry's text with a leading slash (`/users/<int:pk>/`); style `sentry` writes
    what sentry-python's integration writes (`/users/{pk}/`), so that alerts and history survive a migration.
    """
    if style == "sentry":
        route = _simplified(route)
    elif _LOOKS_LIKE_REGEX.search(route):
        route = _ANCHORS.sub("", route)
    return route if route.startswith("/") else f"/{route}"


# The steps of sentry-python's `RavenResolver._simplify`, in its order. Its oddities (nested groups) are kept:
# the names must be those that alerts and history already have.
_SENTRY_STEPS = (
    (re.compile(r"\(\?:([^)]+)\)"), r"\1"),
    (re.compile(r"\(\?P<(\w+)>[^)]+\)+"), r"{\1}"),
    (re.compile(r"\([^)]+\)"), "{var}"),
    (re.compile(r"\[([^\]]+)\|([^\]]+)\]"), r"\1"),
    (re.compile(r"\\[AZ]|[\^$?]"), ""),
    (re.compile(r"//"), "/"),
    (re.compile(r"\\"), ""),
)


def _simplified(route: str) -> str:
    """A whole route, which may mix `path()` and `re_path()`, as sentry-python names it pattern by pattern."""
    if _LOOKS_LIKE_REGEX.search(route):
        for pattern, replacement in _SENTRY_STEPS:
            route = pattern.sub(replacement, route)
    return _CONVERTER.sub(r"{\1}", route)


@lru_cache(512)
def first_word(statement: str) -> str:
    """The command of an SQL or Redis statement in capitals: `SELECT`; empty when it begins with none."""
    words = statement[:64].split(None, 1)
    word = words[0].strip("();,") if words else ""
    return word.upper() if word.replace("_", "").isalpha() and word.isascii() else ""


def joined(keys: Any) -> str:
    """A cache key or several as a description has them: `k1, k2`."""
    if isinstance(keys, str):
        return cut(keys)
    if isinstance(keys, Iterable):
        return cut(", ".join(str(key) for key in keys if isinstance(key, (str, int))))
    return ""
