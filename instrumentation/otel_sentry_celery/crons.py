"""Check-ins for the tasks that beat starts.

Beat writes slug and schedule of the entry into the message's headers; the worker says when the task begins and how it
ends. So beat may run anywhere, and a worker that is down is a missed run. The headers' names are sentry-python's.
Every scheduler goes through `Scheduler.apply_async`: Celery's own, django-celery-beat's and redbeat's.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

import wrapt
from celery import signals
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_sentry import crons, guard
from otel_sentry.trace.dsc import current_settings

SLUG, CONFIG, CHECK_IN = "sentry-monitor-slug", "sentry-monitor-config", "sentry-monitor-check-in-id"

#: What the message of the entry that beat sends right now gets as headers.
_headers: ContextVar[dict[str, Any] | None] = ContextVar("otel_sentry_celery_beat", default=None)
_RUN = "_otel_sentry_monitor"
_PLAIN = re.compile(r"[\d*,/-]+")


def install() -> None:
    """See to it that beat, where it starts, marks its messages. Costs nothing elsewhere."""
    signals.beat_init.connect(_wrap, weak=False)
    signals.beat_embedded_init.connect(_wrap, weak=False)


def uninstall() -> None:
    """Undo `install`."""
    import sys

    signals.beat_init.disconnect(_wrap)
    signals.beat_embedded_init.disconnect(_wrap)
    beat: Any = sys.modules.get("celery.beat")
    if beat is not None and isinstance(beat.Scheduler.__dict__.get("apply_async"), wrapt.FunctionWrapper):
        beat.Scheduler.apply_async = beat.Scheduler.apply_async.__wrapped__


@guard.call("celery beat")
def _wrap(sender: Any = None, **kwargs: Any) -> None:
    from celery.beat import Scheduler

    if not isinstance(Scheduler.__dict__["apply_async"], wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(Scheduler, "apply_async", _apply)
    if sender is not None and not current_settings().celery_broker_spans:
        with suppress_instrumentation():  # it reads its entries when it is made
            scheduler = sender.scheduler
        for name in ("tick", "_do_sync"):  # asks its database or Redis for changes every few seconds
            method = getattr(scheduler, name, None)
            if method is not None and not isinstance(method, partial):
                setattr(scheduler, name, partial(_quietly, method))


def _quietly(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with suppress_instrumentation():
        return method(*args, **kwargs)


def _apply(wrapped: Callable[..., Any], scheduler: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    headers = None
    with guard.block("celery beat"):
        headers = headers_of(args[0] if args else kwargs["entry"], scheduler.app)
    token, context = _headers.set(headers), attach(Context())  # a trace of its own, whatever runs around it
    try:
        return wrapped(*args, **kwargs)
    finally:
        detach(context)
        _headers.reset(token)


def for_message() -> dict[str, Any]:
    """The headers of the message that is being published: empty unless beat sends it."""
    return _headers.get() or {}


def headers_of(entry: Any, app: Any) -> dict[str, Any] | None:
    """What the message of *entry* says of its monitor; None, and one line, for a schedule that Sentry can't have."""
    if crons.is_excluded(entry.name):
        return None
    try:
        config = monitor_config(entry.schedule, app)
    except ValueError as exc:
        guard.say_once(f"crons:{entry.name}", f"no check-ins for the beat entry {entry.name!r:.100}: {exc}")
        return None
    return {SLUG: crons.slug_of(entry.name), CONFIG: config, CHECK_IN: uuid.uuid4().hex}


def monitor_config(schedule: Any, app: Any) -> dict[str, Any]:
    """Celery's schedule as Sentry's.

    Raises:
        ValueError: there is no such thing in Sentry.

    """
    from celery import schedules

    if isinstance(schedule, schedules.crontab):
        return {"schedule": {"type": "crontab", "value": _crontab(schedule)}, "timezone": _timezone(schedule, app)}
    if isinstance(schedule, schedules.schedule):
        return {"schedule": crons.interval(schedule.run_every.total_seconds())}
    raise ValueError(f"Sentry has no schedule of type {type(schedule).__name__}")


def _crontab(schedule: Any) -> str:
    fields = [
        _field(schedule._orig_minute, schedule.minute, 0, 59),
        _field(schedule._orig_hour, schedule.hour, 0, 23),
        _field(schedule._orig_day_of_month, schedule.day_of_month, 1, 31),
        _field(schedule._orig_month_of_year, schedule.month_of_year, 1, 12),
        _field(schedule._orig_day_of_week, schedule.day_of_week, 0, 6),
    ]
    if not fields[2].startswith("*") and not fields[4].startswith("*"):
        raise ValueError("Celery means days of the month that are also these days of the week, crontab either of them")
    return " ".join(fields)


def _field(text: Any, values: Any, low: int, high: int) -> str:
    """As it was written where crontab reads it alike, else the numbers that Celery read (names, lists)."""
    written = str(text)
    if _PLAIN.fullmatch(written) and all(int(one) <= int(two) for one, two in re.findall(r"(\d+)-(\d+)", written)):
        return written
    if set(values) == set(range(low, high + 1)):
        return "*"
    return ",".join(str(value) for value in sorted(values))


def _timezone(schedule: Any, app: Any) -> str:
    zone = getattr(schedule, "tz", None) or app.timezone
    name: str = getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    if not re.fullmatch(r"[A-Za-z0-9_+/-]+", name):
        raise ValueError("its time zone has no name; set Celery's `timezone`")
    return name


# --- In the worker ---


def begin(request: Any) -> None:
    """The task starts: in progress, if beat sent it."""
    slug, check_in_id = getattr(request, SLUG, None), getattr(request, CHECK_IN, None)
    if not isinstance(slug, str) or not isinstance(check_in_id, str):
        return
    setattr(request, _RUN, time.monotonic())
    config = getattr(request, CONFIG, None)
    crons.check_in(slug, crons.IN_PROGRESS, check_in_id, config=config if isinstance(config, Mapping) else None)


def end(request: Any, state: str | None, outcome: Any = None) -> None:
    """The task has ended in *state* with *outcome*: ok, error, or not yet over (it will be tried again)."""
    started = getattr(request, _RUN, None)
    if started is None or state == "RETRY" or (state == "REJECTED" and getattr(outcome, "requeue", False)):
        return
    status = crons.OK if state in ("SUCCESS", "IGNORED") else crons.ERROR
    # Of a retried task Sentry counts the time itself, from the first try on.
    duration_s = None if request.retries else time.monotonic() - started
    _finish(request, status, duration_s)


@guard.call("celery check-in")
def killed(request: Any) -> None:
    """In the main process: the task's process was ended, so it can't say so itself."""
    if getattr(request, _RUN, None) is None and isinstance(getattr(request, SLUG, None), str):
        _finish(request, crons.ERROR, None)


def _finish(request: Any, status: str, duration_s: float | None) -> None:
    slug, check_in_id, config = (getattr(request, name, None) for name in (SLUG, CHECK_IN, CONFIG))
    if isinstance(slug, str) and isinstance(check_in_id, str):
        config = config if isinstance(config, Mapping) else None
        crons.check_in(slug, status, check_in_id, config=config, duration_s=duration_s)
