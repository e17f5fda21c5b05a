"""Envelope bytes, and JSON that Sentry's parser takes whatever the attributes hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from otel_sentry.convention.naming import MAX_TEXT, cut
from otel_sentry.sentry.sender import Envelope

__all__ = ["Envelope", "dumps", "envelope", "plain", "plain_data"]

#: Items of a list, keys of a nested mapping and levels that are kept of one attribute.
MAX_ITEMS = 200
MAX_DEPTH = 8
#: Characters of all texts of one span, about; past it each value keeps its first ones only.
MAX_SPAN_TEXT = 64 * 1024
_SHORT = 256
_MAX_INT = 2**63


def _unknown(value: Any) -> str:
    """Never `str()` of a user's object: lazy ones open database connections (decision 19)."""
    return f"<{type(value).__name__}>"


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), skipkeys=True, allow_nan=False, default=_unknown
).encode


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8. NaN and infinities become texts, lone surrogates question marks."""
    try:
        text = _encode(value)
    except (ValueError, RecursionError):  # NaN, a circular reference, an int with thousands of digits
        text = _encode(plain(value, depth=-8))
    return text.encode("utf-8", "replace")


def plain(value: Any, depth: int = 0) -> Any:
    """*value* as JSON can hold it: finite numbers, bounded texts, lists and depth."""
    kind = type(value)
    if kind is str:
        return cut(value)
    if kind is bool or value is None:
        return value
    if kind is int:
        return value if -_MAX_INT <= value < _MAX_INT else _big(value)
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return cut(bytes(value[: MAX_TEXT + 1]).decode("utf-8", "replace"))
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            (key if isinstance(key, str) else plain_key(key)): plain(item, depth + 1)
            for key, item in list(value.items())[: MAX_ITEMS if depth > 0 else None]
        }
    if isinstance(value, (set, frozenset)):
        value = list(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item, depth + 1) for item in value[: MAX_ITEMS if depth >= 0 else None]]
    for base in (str, int, float):  # subclasses: enums, str-like markers
        if isinstance(value, base):
            return plain(base(value), depth)
    return _unknown(value)


def plain_key(key: Any) -> str:
    """A mapping's key that is no text."""
    return str(key) if isinstance(key, (int, float)) and abs(key) < _MAX_INT else _unknown(key)


def _big(value: int) -> str:
    # Past 4300 digits Python refuses to print the number at all.
    return str(value) if value.bit_length() < 1024 else f"<int of {value.bit_length()} bits>"


def plain_data(data: Mapping[str, Any], budget: int = MAX_SPAN_TEXT) -> dict[str, Any]:
    """A span's attributes as JSON can hold them; past *budget* characters in all, texts are cut short."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        kind = type(value)
        if kind is str:
            size = len(value)
            if size > MAX_TEXT:
                value = cut(value)
                size = MAX_TEXT
            if size > budget and size > _SHORT:
                value = cut(value, _SHORT)
            budget -= size
            out[key] = value
        elif kind is bool:
            out[key] = value
        elif kind is int or kind is float or budget > 0:
            out[key] = value = plain(value)
            if kind is not int and kind is not float:
                size = _text_size(value)
                if size > budget and size > _SHORT:
                    value = cut(dumps(value).decode(), max(budget, _SHORT))
                out[key] = value
                budget -= size
        else:
            out[key] = "…"
    return out


def _text_size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_text_size, value)) + 2 * len(value)
    if isinstance(value, dict):
        return sum(len(key) + _text_size(item) for key, item in value.items())
    return 8


def envelope(
    kind: str,
    payload: bytes,
    categories: tuple[tuple[str, int], ...],
    *,
    event_id: str | None = None,
    trace: Mapping[str, str] | None = None,
    sdk: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    item_count: int | None = None,
) -> Envelope:
    """One item in an envelope. *trace* is the dynamic sampling context; *item_count* is for a container of items.

    The sender names the project.
    """
    header: dict[str, Any] = {"event_id": event_id} if event_id else {}
    header["sent_at"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if sdk:
        header["sdk"] = sdk
    if trace:
        header["trace"] = trace
    count = "" if item_count is None else f'"item_count":{item_count},'
    item = f'{{"type":"{kind}",{count}"content_type":"{content_type}","length":{len(payload)}}}\n'
    return Envelope(b"".join((dumps(header), b"\n", item.encode(), payload, b"\n")), categories)
