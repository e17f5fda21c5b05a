"""Sentry's propagation headers as text: ``sentry-trace`` and the ``sentry-*`` part of ``baggage``.

Pure functions over whatever a carrier may hold. None raises on bad input: what is malformed counts as absent.
Source: Sentry develop docs, "Trace Propagation" and "Dynamic Sampling Context"; W3C Baggage for the limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_plus

SENTRY_TRACE = "sentry-trace"
BAGGAGE = "baggage"
PREFIX = "sentry-"

#: W3C Baggage: what every receiver must accept, so that what we send is not cut by the next hop.
MAX_BYTES = 8192
MAX_MEMBERS = 64

_TRACE = re.compile(r"[ \t]*([0-9a-f]{32})-([0-9a-f]{16})(?:-([01]))?[ \t]*")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class SentryTrace(NamedTuple):
    """A parsed ``sentry-trace``. *sampled* is None when the sender deferred the decision."""

    trace_id: int
    span_id: int
    sampled: bool | None


def header_text(values: object) -> str:
    """What a getter returned, as one comma-joined string.

    Getters return None, a string, bytes, or a list of either; `DefaultGetter` turns a bytes value into a list
    of ints. Anything else in a list is skipped.
    """
    if isinstance(values, str):
        return values
    if type(values) is list and len(values) == 1 and type(values[0]) is str:  # nearly always
        return values[0]
    if isinstance(values, bytes | bytearray):
        return values.decode("latin-1")
    if not isinstance(values, Iterable) or isinstance(values, Mapping):
        return ""
    parts = list(values)
    if parts and all(type(part) is int for part in parts):
        return bytes(parts).decode("latin-1") if all(0 <= part < 256 for part in parts) else ""
    return ",".join(header_text(part) for part in parts if isinstance(part, str | bytes | bytearray))


def parse_sentry_trace(text: str) -> SentryTrace | None:
    """Read ``traceid-spanid[-0|-1]``; of comma-joined duplicates the first non-empty (as sentry-python)."""
    if not text or len(text) > MAX_BYTES:
        return None
    first = next((part for part in text.split(",") if part.strip()), "")
    match = _TRACE.fullmatch(first)
    if match is None:
        return None
    trace_id, span_id = int(match[1], 16), int(match[2], 16)
    if not trace_id or not span_id:
        return None
    return SentryTrace(trace_id, span_id, None if match[3] is None else match[3] == "1")


def format_sentry_trace(trace_id: int, span_id: int, sampled: bool | None) -> str:
    """Write ``traceid-spanid[-0|-1]``; no flag when the decision is deferred."""
    suffix = "" if sampled is None else "-1" if sampled else "-0"
    return f"{trace_id:032x}-{span_id:016x}{suffix}"


def members(text: str) -> list[str]:
    """The members of a baggage header, stripped. Past 8 KiB only whole members that fit are read."""
    if len(text) > MAX_BYTES:
        text = text[:MAX_BYTES].rpartition(",")[0]
    return [member for part in text.split(",") if (member := part.strip())]


def sentry_items(text: str) -> dict[str, str]:
    """The ``sentry-*`` members of a baggage header, decoded, keys without the prefix.

    Of duplicates the first counts, like the first ``sentry-trace`` does: doubled headers stay a pair.
    ``+`` is a space: a plain OpenTelemetry hop re-encodes values that way, and Sentry's SDKs write ``%2B``
    for a plus.
    """
    found: dict[str, str] = {}
    for member in members(text):
        if not member.startswith(PREFIX):
            continue
        key, separator, value = member[len(PREFIX) :].partition("=")
        key, value = key.strip(), value.partition(";")[0].strip()
        if "%" in value or "+" in value:
            value = unquote_plus(value)
        if separator and _KEY.fullmatch(key) and value and value.isprintable():
            found.setdefault(key, value)
    return found


def third_party(text: str) -> list[str]:
    """The other members, as they are. What no header may hold (control characters, non-ASCII) is left out."""
    return [m for m in members(text) if not m.startswith(PREFIX) and m.isascii() and m.isprintable()]


def merge_baggage(others: Iterable[str], dsc: Mapping[str, str]) -> str:
    """One baggage value: third-party members, then the DSC; at most 8192 bytes and 64 members.

    What does not fit is dropped from the end of the third-party members: the DSC is small and always goes.
    """
    ours, count = _encoded(tuple(dsc.items()))
    kept: list[str] = []
    room = MAX_BYTES - len(ours)
    for member in others:
        room -= len(member) + 1
        if room < 0 or len(kept) + count >= MAX_MEMBERS:
            break
        kept.append(member)
    if ours:
        kept.append(ours)
    return ",".join(kept)


@lru_cache(maxsize=128)
def _encoded(items: tuple[tuple[str, str], ...]) -> tuple[str, int]:
    """The DSC's members as text, and their number. Cached: a frozen DSC goes out many times."""
    parts: list[str] = []
    room = MAX_BYTES
    for key, value in items:
        part = f"{PREFIX}{quote(key)}={quote(value, errors='replace')}"
        if room < len(part) + 1 or len(parts) >= MAX_MEMBERS:
            continue
        room -= len(part) + 1
        parts.append(part)
    return ",".join(parts), len(parts)
