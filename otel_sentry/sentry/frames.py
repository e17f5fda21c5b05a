"""Local variables of a stack trace, cut to what Sentry takes: 2 KiB a frame (Relay's limit for ``FrameVars``).

Relay would cut them too, and mark the event as trimmed; cutting here keeps something of every variable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: Relay counts 2048 bytes of JSON with its punctuation; this leaves room for how it counts keys.
MAX_VARS_BYTES = 1800
#: What the longest variables may keep when a frame has too many for all to stay whole.
_SHORT = 160


def trim(event: dict[str, Any]) -> dict[str, Any]:
    """Cut the variables of every frame of *event*, in place."""
    for frame in _frames(event):
        variables = frame.get("vars")
        if isinstance(variables, dict) and _size(variables) > MAX_VARS_BYTES:
            frame["vars"] = _fitted(variables)
    return event


def _frames(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for block in ("exception", "threads"):
        values = (event.get(block) or {}).get("values") or ()
        for value in values:
            if isinstance(value, dict):
                yield from (value.get("stacktrace") or {}).get("frames") or ()


def _fitted(variables: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    left = MAX_VARS_BYTES
    for number, (name, value) in enumerate(variables.items()):
        share = max(_SHORT, left // (len(variables) - number)) - len(name) - 8
        size = _size(value)
        if size > share:
            value = _cut(value, share)
            size = _size(value)
        left -= size + len(name) + 8
        if left < 0:
            break
        kept[name] = value
    return kept


def _cut(value: Any, size: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Characters may take several bytes: cut by bytes, drop what was split.
    return text.encode("utf-8", "replace")[: max(size - 8, 0)].decode("utf-8", "ignore") + "…"


def _size(value: Any) -> int:
    return len(json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace"))
