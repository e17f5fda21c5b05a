"""Distinct users a day, by HyperLogLog in the store: who they are is no label and is not kept (business.md 3)."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Mapping
from typing import Any

from otel_sentry import counters, guard
from otel_sentry.business import daily, limits, worker

#: Users that wait for the store, of all metrics together.
MAX_WAITING = 10_000
_KEPT_S = 2 * 86400.0

_Series = tuple[str, str, tuple[tuple[str, str], ...]]  # day, metric, labels
_waiting: dict[_Series, set[str]] = {}
_lock = threading.RLock()  # re-entrant: the garbage collector may call us, too
_asked: object = None  # the worker's queue that holds our question
#: Funnel -> its steps in their order.
_orders: dict[str, tuple[str, ...]] = {}
_MAX_FUNNELS = 100


def declare(funnel: str, steps: tuple[str, ...]) -> None:
    """Say in which order the steps of *funnel* come."""
    if funnel in _orders or len(_orders) < _MAX_FUNNELS:
        _orders[funnel] = steps


def note(metric: str, labels: Mapping[str, Any], user: str, at: float) -> None:
    """*user* was seen: the gauge *metric* tells how many there have been this day."""
    global _asked
    attributes = limits.bounded(metric, labels)
    if attributes is None:
        return
    with _lock:
        full = sum(map(len, _waiting.values())) >= MAX_WAITING
        if not full:
            _waiting.setdefault((daily.day_of(at), metric, tuple(attributes.items())), set()).add(user[:200])
    if full:
        counters.lost("queue_overflow", "business")
        guard.say_once("users", f"{MAX_WAITING} users wait for the store: further ones are not counted")
    if _asked is not worker.queue():
        _asked = worker.queue()
        if not worker.submit(_count):
            _asked = None


def _count() -> None:
    """Ask the store; on the worker. One that is away is asked again: adding a user twice is adding them once."""
    global _asked, _waiting
    from otel_sentry.business import store

    with _lock:
        taken, _waiting, _asked = _waiting, {}, None
    try:
        while taken:
            series, members = next(iter(taken.items()))
            day, metric, labels = series
            key = ":".join(("users", day, metric, *(value for _, value in labels)))
            number = 0
            while members:
                member = members.pop()
                try:
                    number = store.get().distinct_add(key, member, _KEPT_S)
                except store.Unavailable:
                    members.add(member)
                    raise
            del taken[series]
            _tell(metric, dict(labels), number, day)
    except store.Unavailable:
        _asked = worker.queue()  # the worker calls again
        raise
    finally:
        with _lock:
            for series, members in taken.items():
                _waiting.setdefault(series, set()).update(members)


def _tell(metric: str, labels: dict[str, str], number: int, day: str) -> None:
    from otel_sentry.business import metrics

    metrics.gauge(metric, number, **labels)
    order = _orders.get(labels.get("funnel", "")) if metric == "funnel.users" else None
    if order is None:
        return
    from otel_sentry.business import store

    funnel, step = labels["funnel"], labels["step"]

    def change(known: dict[str, Any] | None) -> dict[str, Any]:
        return {**(known or {}), step: max(number, (known or {}).get(step, 0))}

    counts = store.get().change(f"funnel:{day}:{funnel}", change, _KEPT_S) or {}
    for before, after in itertools.pairwise(order):
        if counts.get(before):
            share = 1 - min(1.0, counts.get(after, 0) / counts[before])
            metrics.gauge("funnel.drop_off", share, "1", funnel=funnel, step=after)


def reset() -> None:
    """Forget who waits (a forked child: they are the parent's to count)."""
    global _asked, _lock, _waiting
    _lock, _waiting, _asked = threading.RLock(), {}, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)
