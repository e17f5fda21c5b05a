"""Sums by day, in the store, for ``otel-sentry report``: one document for a day and metric, shared by all processes.

Written at most every `INTERVAL_S` seconds, and when the process flushes or ends; kept for `KEPT_S`. Days are UTC.
"""

from __future__ import annotations

import functools
import json
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from otel_sentry.business import limits, worker

INTERVAL_S = 10.0
KEPT_S = 40 * 86400.0
#: Series of one document.
MAX_SERIES = 1000
#: Buckets of a distribution are this much wider than the one before: quantiles are right within 10 %.
_GROWTH = math.log(1.2)

Entry = dict[str, Any]

#: (day, metric) -> labels as JSON -> what was added since the last `save`.
_waiting: dict[tuple[str, str], dict[str, Entry]] = {}
_lock = threading.RLock()  # re-entrant: the garbage collector may measure, too
_saved = 0.0
_asked: object = None  # the worker's queue that holds our question to write


def add(name: str, kind: str, value: float, labels: Mapping[str, str], at: float) -> None:
    """Note a measurement."""
    key = _text(tuple(labels.items()))
    with _lock:
        merge(_waiting.setdefault((day_of(at), name), {}), {key: one(kind, value)})


@functools.lru_cache(maxsize=4096)
def _text(labels: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(labels), sort_keys=True)


def one(kind: str, value: float) -> Entry:
    """A series of one measurement: ``n`` of them, their ``sum``, ``max``, and how many in each bucket."""
    if kind == "gauge":
        return {"max": value}
    if kind == "counter":
        return {"n": value}
    bucket = str(math.ceil(math.log(value) / _GROWTH)) if value > 0 else "-"
    return {"n": 1, "sum": value, "max": value, "b": {bucket: 1}}


def merge(into: dict[str, Entry], series: Mapping[str, Entry]) -> dict[str, Entry]:
    """Add *series* to *into*; past `MAX_SERIES` to the series ``other``."""
    for key, entry in series.items():
        if key not in into and len(into) >= MAX_SERIES:
            key = json.dumps(dict.fromkeys(json.loads(key), limits.OTHER), sort_keys=True)
        known = into.setdefault(key, {})
        for field in ("n", "sum"):
            if field in entry:
                known[field] = known.get(field, 0) + entry[field]
        if "max" in entry:
            known["max"] = max(known.get("max", entry["max"]), entry["max"])
        if "b" in entry:
            buckets = known.setdefault("b", {})
            for bucket, count in entry["b"].items():
                buckets[bucket] = buckets.get(bucket, 0) + count
    return into


def quantile(entry: Entry, share: float) -> float:
    """The value below which *share* of a distribution lies, at most 10 % off."""
    buckets = sorted((-math.inf if key == "-" else int(key), count) for key, count in (entry.get("b") or {}).items())
    wanted = share * sum(count for _, count in buckets)
    for bucket, count in buckets:
        wanted -= count
        if wanted <= 0:
            return min(math.exp((bucket - 0.5) * _GROWTH), float(entry["max"])) if bucket > -math.inf else 0.0
    return float(entry.get("max", 0.0))


def ask(now: bool = False) -> None:
    """Have the worker write what waits, if it is time (or *now*)."""
    global _asked
    if _waiting and _asked is not worker.queue() and (now or time.monotonic() - _saved >= INTERVAL_S):
        _asked = worker.queue()
        if not worker.submit(_save):
            _asked = None


def _save() -> None:
    """Write what waits to the store; on the worker, which calls again where the store is away (`Unavailable`)."""
    global _asked, _saved, _waiting
    from otel_sentry.business import store

    _saved = time.monotonic()
    with _lock:
        taken, _waiting, _asked = _waiting, {}, None
    try:
        while taken:
            (day, name), series = next(iter(taken.items()))
            store.get().change(_key(day, name), functools.partial(_merged, series), KEPT_S)
            del taken[day, name]
    except store.Unavailable:
        _asked = worker.queue()  # the worker calls again
        raise
    finally:
        with _lock:
            for key, series in taken.items():
                _waiting[key] = merge(series, _waiting.get(key, {}))


def _merged(series: dict[str, Entry], known: dict[str, Any] | None) -> dict[str, Any]:
    return merge(known or {}, series)


def load(store: Any, name: str, days: Iterable[str]) -> dict[str, Entry]:
    """A metric's series over *days*, together."""
    found: dict[str, Entry] = {}
    for day in days:
        merge(found, store.load(_key(day, name)) or {})
    return found


def _key(day: str, name: str) -> str:
    return f"day:{day}:{name}"


def day_of(at: float) -> str:
    """The UTC day of *at*, seconds since the epoch."""
    return _name_of(int(at // 86400))


@functools.lru_cache(maxsize=64)
def _name_of(day: int) -> str:
    return datetime.fromtimestamp(day * 86400, timezone.utc).strftime("%Y-%m-%d")


def last_days(count: int, now: float | None = None) -> list[str]:
    """Today and the days before it, the oldest first."""
    today = int((time.time() if now is None else now) // 86400)
    return [_name_of(day) for day in range(today - count + 1, today + 1)]


def reset() -> None:
    """Forget what waits (a forked child: it is the parent's to write)."""
    global _asked, _lock, _waiting
    _lock, _waiting, _asked = threading.RLock(), {}, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)
