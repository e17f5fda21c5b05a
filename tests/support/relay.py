"""Acceptance by Sentry's own code: its Relay library normalises an event, and we read what it objected to.

It knows error events and transactions; it has no function for span v2, logs, metrics or the sampling context.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest

#: Sentry's intake takes nothing older or newer than this.
_OLDEST_S = 30 * 86400
_NEWEST_S = 60


def findings(event: dict[str, Any]) -> list[str]:
    """What Relay rejects, deletes, corrects or cuts in *event*, one line each. Skips the test without it."""
    relay = pytest.importorskip("sentry_relay.processing", reason="sentry-relay is not installed")
    from sentry_relay.exceptions import RelayError

    normalizer = relay.StoreNormalizer(
        project_id=1,
        protocol_version="7",
        key_id="1",
        client="otel-sentry-tests/1",
        enable_trimming=True,
        remove_other=True,
        max_secs_in_future=_NEWEST_S,
        max_secs_in_past=_OLDEST_S,
        received_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    try:
        normalised = normalizer.normalize_event(copy.deepcopy(event))
    except RelayError as exc:
        return [f"rejected: {type(exc).__name__}: {str(exc).splitlines()[0]}"]
    return list(_objections(normalised.get("_meta") or {}, "event"))


def assert_relay_ok(event: dict[str, Any]) -> None:
    """Fail with Relay's findings unless it takes *event* as it is."""
    found = findings(event)
    assert not found, "\n".join(found)


def _objections(meta: dict[str, Any], path: str) -> Iterator[str]:
    note = meta.get("")
    if isinstance(note, dict):
        for error in note.get("err") or ():
            yield f"{path}: {error} (value {note.get('val')!r})"
        for remark in note.get("rem") or ():
            yield f"{path}: {remark} (original length {note.get('len')})"
        if not note.get("err") and not note.get("rem"):
            yield f"{path}: {note}"
    for key, child in meta.items():
        if key and isinstance(child, dict):
            yield from _objections(child, f"{path}.{key}")
