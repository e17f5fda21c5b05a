"""Measurements of the business: each goes to Sentry, and into an OTel instrument where a `MeterProvider` is on.

Decision 28: Sentry's item is written here, with the trace it happened in, whatever the sampling of traces says; the
exporter of OTel's metrics leaves the instruments of this scope out. ``OTEL_SENTRY_METRICS=off`` keeps everything from
Sentry, not from an exporter of OpenTelemetry's. What may be grouped by is bounded (`limits`).

A call only puts its arguments down; the business worker does the rest. Where it can't keep up the callers help, so that
nothing is lost. What the catalogue marks as ``from_spans`` Sentry has from its spans already, and gets with
``OTEL_SENTRY_METRICS=all`` only.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import metrics as otel
from opentelemetry.trace import get_current_span

from otel_sentry import counters, guard, runtime
from otel_sentry.business import daily, limits, rollouts, worker
from otel_sentry.business.catalogue import METRICS

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_sentry.runtime import Runtime

#: The scope of our instruments (`sentry.metric_points.OURS`).
SCOPE = "otel_sentry.business"
#: Measurements that wait before callers help with them, and at which they are dropped: inside of a signal handler that
#: interrupted us there is no helping.
_HELP_FROM = 10_000
_MAX_WAITING = 20_000
#: Those that say which variant of a rollout was at work.
_BY_ROLLOUT = frozenset(metric.name for metric in METRICS.values() if "rollout" in metric.labels)
#: Upper bounds of histogram buckets: those of OpenTelemetry's semantic conventions for seconds, and on to an hour.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2, 3, 5, 7.5, 10, 30, 60, 300, 3600)
#: For everything else.
_PLAIN = tuple(base * 10**power for power in range(-2, 10) for base in (1, 2.5, 5))


_waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
_asked: object = None  # the worker's queue that holds our question to look
_here = threading.local()
#: (kind, name) -> the instrument of the provider in `_made_by`.
_instruments: dict[tuple[str, str], Any] = {}
_made_by: Any = None


def count(name: str, /, value: float = 1, **labels: Any) -> None:
    """Add *value* (>= 0) to a counter.

    Args:
        name: of the metric, one of the catalogue's.
        value: what to add.
        labels: what to group by; few values each. None: left out.

    """
    _put("counter", name, value, None, labels)


def distribution(name: str, /, value: float, unit: str | None = None, **labels: Any) -> None:
    """Note one *value* of many, e.g. a duration. *unit* in UCUM: ``s``, ``By``, ``1``; the same at each call."""
    _put("distribution", name, value, unit, labels)


def gauge(name: str, /, value: float, unit: str | None = None, **labels: Any) -> None:
    """Say what *value* is now."""
    _put("gauge", name, value, unit, labels)


@guard.call("business metric")
def _put(kind: str, name: str, value: Any, unit: str | None, labels: dict[str, Any]) -> None:
    if runtime.get() is None:
        return
    if name in _BY_ROLLOUT:
        labels = {**labels, "rollout": rollouts.label()}
    later(record, kind, name, value, unit, labels, time.time(), otel_context.get_current())


def later(function: Callable[..., None], *args: Any) -> None:
    """Call ``function(*args)`` soon, on the worker if it can keep up. Never waits, and the store is not to be asked."""
    global _asked
    if len(_waiting) >= _MAX_WAITING:
        counters.lost("queue_overflow", "trace_metric")
        return
    _waiting.append((function, args))
    if len(_waiting) > _HELP_FROM:
        drain(2)
    elif _asked is not worker.queue():
        _asked = worker.queue()
        if not worker.submit(_on_worker):
            _asked = None


def _on_worker() -> None:
    global _asked
    _asked = None  # first: who puts something down from now on asks again
    drain()
    daily.ask()


def settle(deadline: float = math.inf) -> None:
    """Record what waits, here; what only the store can keep is handed to the worker. Before a flush, and at exit."""
    flush(deadline)
    daily.ask(now=True)


def flush(deadline: float) -> None:
    """Record what waits, here, until *deadline* (monotonic)."""
    while _waiting and time.monotonic() < deadline and not getattr(_here, "inside", False):
        drain(100)


def close(deadline: float) -> None:
    """`flush`, for the last time: what is left is counted as lost."""
    flush(deadline)
    counters.lost("network_error", "trace_metric", len(_waiting))
    _waiting.clear()


def drain(limit: int | None = None) -> None:
    """Record what waits, or *limit* of it, on this thread."""
    if getattr(_here, "inside", False):  # OpenTelemetry's locks are not re-entrant
        return
    _here.inside = True
    try:
        while _waiting and limit != 0:
            try:
                function, args = _waiting.popleft()
            except IndexError:  # another thread was faster
                break
            limit = None if limit is None else limit - 1
            with guard.block("business metric"):
                function(*args)
    finally:
        _here.inside = False


def record(
    kind: str, name: str, value: Any, unit: str | None, labels: Mapping[str, Any], at: float, context: Context
) -> None:
    """What `count` and the others put down: *at* in seconds since the epoch, with the *context* it happened in."""
    current = runtime.get()
    if current is None:
        return
    found = number(value)
    if found is None or (kind == "counter" and found < 0):
        guard.say_once(f"metric:{name}", f"the metric {name} was given no fitting number; it is left out")
        return
    attributes = limits.bounded(name, labels)
    if attributes is None:
        return
    if _to_sentry(current, name):
        from otel_sentry.sentry import metrics_v2

        ids = get_current_span(context).get_span_context()
        metrics_v2.put(name, kind, found, metrics_v2.unit_of(unit), attributes, ids.trace_id, ids.span_id, at)
    provider = _provider()
    if provider is not None:
        _feed(_instrument(provider, kind, name, unit), kind, found, attributes, context)
    if _to_store(current, name):
        daily.add(name, kind, found, attributes, at)


def heard(name: str) -> bool:
    """Does anybody want this metric? For those that are measured at every request."""
    current = runtime.get()
    return current is not None and (_to_sentry(current, name) or _to_store(current, name) or _provider() is not None)


def _to_sentry(current: Runtime, name: str) -> bool:
    wanted = current.settings.metrics
    if current.sender is None or wanted == "off":
        return False
    known = METRICS.get(name)
    return known is None or not known.from_spans or wanted == "all"


def _to_store(current: Runtime, name: str) -> bool:
    """Sums by day are kept where a store was named: the report has to find it, too."""
    known = METRICS.get(name)
    return known is not None and known.daily and current.settings.store is not None


def number(value: Any) -> float | None:
    """*value* as a finite number, else None."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _provider() -> Any:
    """The meter provider that somebody has set up, if any; OpenTelemetry's stand-in for one counts as none."""
    provider = otel.get_meter_provider()
    return None if type(provider).__name__.lstrip("_") in ("ProxyMeterProvider", "NoOpMeterProvider") else provider


def _feed(instrument: Any, kind: str, value: float, attributes: dict[str, str], context: Context) -> None:
    if kind == "counter":
        instrument.add(value, attributes, context)
    elif kind == "gauge":
        instrument.set(value, attributes, context)
    else:
        instrument.record(value, attributes, context)


def _instrument(provider: Any, kind: str, name: str, unit: str | None) -> Any:
    global _made_by
    if _made_by is not provider:
        _instruments.clear()
        _made_by = provider
    made = _instruments.get((kind, name))
    if made is None:
        made = _instruments[kind, name] = _make(provider.get_meter(SCOPE), kind, name, unit)
    return made


def _make(meter: Any, kind: str, name: str, unit: str | None) -> Any:
    if kind == "counter":
        return meter.create_counter(name, unit or "")
    if kind == "gauge":
        return meter.create_gauge(name, unit or "")
    bounds = _SECONDS if unit == "s" else _PLAIN
    return meter.create_histogram(name, unit or "", explicit_bucket_boundaries_advisory=bounds)


def reset() -> None:
    """Forget what waits (a forked child: it is the parent's to send)."""
    global _asked
    _waiting.clear()
    _asked = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reset)
