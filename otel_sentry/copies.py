"""One helper for all who read a span's attributes, in a module that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOTHING: Mapping[str, Any] = {}


def copied(attributes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The attributes as a plain dict where that is cheap: the SDK's own takes a lock an item."""
    if not attributes:
        return _NOTHING
    copy = getattr(attributes, "copy", None)
    return copy() if copy is not None else attributes
