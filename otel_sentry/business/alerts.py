"""Business alerts: one issue in Sentry for each type, and the sinks that the settings name (decision 26).

The caller's thread notes who raised the alert, and where. All else is the worker's: the same alert is raised once in
`OTEL_SENTRY_ALERT_WINDOW` seconds, and at most `OTEL_SENTRY_ALERT_RATE` alerts a minute in all, counted in the store
that the processes share. What was left out is counted too, and stands on the next alert.
"""

from __future__ import annotations

import contextvars
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanContext, get_current_span

from otel_sentry import ambient, guard, privacy, runtime
from otel_sentry.business import worker
from otel_sentry.logs import nested, text_of, value_of
from otel_sentry.parse import SEVERITIES
from otel_sentry.trace.segment import Segment, current_segment

if TYPE_CHECKING:
    from otel_sentry.business.sinks import Alert
    from otel_sentry.business.store import Store
    from otel_sentry.runtime import Runtime

T = TypeVar("T")

_LEVELS = {"critical": "fatal", "error": "error", "warning": "warning", "info": "info"}
_MAX_TYPE = 200
_MINUTE_S = 60.0
#: How long counts of what was left out wait for the next alert, and an alert that was raised for its end.
_KEEP_S = 7 * 86_400.0
#: Different messages of one type that `resolve_business_alert` makes new again.
_MAX_OPEN = 50

#: Takes the store's place while that can't be reached: an alert does not wait.
_own: Store | None = None


@dataclass(frozen=True, slots=True)
class _Raised:
    """What the caller's thread knows. Plain values, and the context that its sentry_sdk scopes and span live in."""

    id: str
    type: str
    severity: str
    message: str
    context: Mapping[str, Any]
    at: float
    here: contextvars.Context
    ambient: ambient.Ambient
    segment: Segment | None
    resolved: bool = False


class AlertManager:
    """`otel_sentry.alert_manager`."""

    @guard.call("trigger_business_alert")
    def trigger_business_alert(
        self, alert_type: str, severity: str, message: str, context: Mapping[str, Any] | None = None
    ) -> str | None:
        """Raise an alert: an issue in Sentry, grouped by *alert_type*, and whatever sinks are set for its severity.

        Args:
            alert_type: what kind it is, without ids: "payment_failed". One issue, and one PagerDuty incident, each.
            severity: "critical" (fatal in Sentry), "high" or "error", "medium" or "warning", "low" or "info";
                anything else is taken for "error".
            message: what has happened. The same one again is left out for a while, and counted.
            context: further values; scrubbed.

        Returns:
            the id that the event in Sentry will have, at once; it leads nowhere if the alert is then left out as a
            repetition. None where nothing is configured. Never raises, never waits.

        """
        return trigger(alert_type, severity, message, context, current_segment())

    @guard.call("resolve_business_alert")
    def resolve_business_alert(self, alert_type: str) -> None:
        """Say that an alert is over: the sinks that got it are told (PagerDuty resolves the incident), and the next one
        of this type is new. Issues in Sentry are resolved in Sentry."""
        if runtime.get() is not None:
            worker.submit(_handle_end, _raised(alert_type, "info", "", None, current_segment(), resolved=True))


def trigger(type: Any, severity: Any, message: Any, context: Any, segment: Segment | None) -> str | None:
    """`AlertManager.trigger_business_alert`, for what happened in *segment*, which may have ended."""
    current = runtime.get()
    if current is None:
        return None
    raised = _raised(type, _severity(severity), message, context, segment)
    queued = worker.submit(_handle, raised)
    return raised.id if queued and (current.sender is not None or current.settings.alert_sinks) else None


#: The one manager; it has no state of its own.
alert_manager = AlertManager()


def _raised(
    type: Any, severity: str, message: Any, context: Any, segment: Segment | None = None, resolved: bool = False
) -> _Raised:
    return _Raised(
        uuid.uuid4().hex,
        text_of(type, _MAX_TYPE) or "alert",
        severity,
        text_of(message),
        nested(context) if isinstance(context, Mapping) else {} if context is None else {"context": value_of(context)},
        time.time(),
        contextvars.copy_context(),
        ambient.current(segment),
        segment,
        resolved,
    )


def _severity(given: Any) -> str:
    known = SEVERITIES.get(given.strip().lower()) if isinstance(given, str) else None
    if known is None:
        guard.say_once(
            "alert_severity",
            "an alert's severity is none of critical, high, error, medium, warning, low, info: error is used",
        )
    return known or "error"


def _handle(raised: _Raised) -> None:
    """On the worker: the rest, as if the caller's thread did it."""
    current = runtime.get()
    if current is not None:
        raised.here.run(_in_place, raised, _raise, raised, current)


def _handle_end(raised: _Raised) -> None:
    current = runtime.get()
    if current is not None:
        raised.here.run(_in_place, raised, _end, raised, current)


def _in_place(raised: _Raised, function: Callable[[_Raised, Runtime], None], *args: Any) -> None:
    """In the caller's context: with its span, user and operation; without spans about our own work."""
    from otel_sentry.sentry import http

    otel_context.attach(otel_context.set_value(ambient.AMBIENT_KEY, raised.ambient))
    with http.suppressed():
        function(*args)


def _raise(raised: _Raised, current: Runtime) -> None:
    from otel_sentry.business import metrics

    metrics.count("business.alert", type=raised.type, severity=raised.severity)
    left_out = _shared(lambda store: _admit(store, raised, current))
    if left_out is None:
        return
    alert = _alert(raised, current, left_out)
    if current.sender is not None:
        _to_sentry(raised, alert)
    if current.settings.alert_sinks:
        from otel_sentry.business.sinks import lanes

        lanes.deliver(alert, current.settings)


def _end(raised: _Raised, current: Runtime) -> None:
    opened = _shared(lambda store: _close(store, raised.type))
    if not current.settings.alert_sinks:
        return
    from otel_sentry.business.sinks import lanes

    lanes.deliver(_alert(raised, current, (0, 0)), current.settings, opened)


def _shared(function: Callable[[Store], T]) -> T:
    """Ask the store; while it can't be reached, this process's memory."""
    global _own
    from otel_sentry.business import store

    try:
        return function(store.get())
    except store.Unavailable:
        if _own is None:
            from otel_sentry.business.memory import Memory

            _own = Memory()
        return function(_own)


def _admit(store: Store, raised: _Raised, current: Runtime) -> tuple[int, int] | None:
    """None for an alert that is left out; else how many were left out before it: of the same, and for the rate."""
    settings = current.settings
    same = _digest(raised.type, raised.message)
    once, held = f"alert:once:{same}", f"alert:held:{same}"
    if settings.alert_window and not store.first(once, settings.alert_window):
        store.add(held, 1, _KEEP_S)
        return None
    if not _within_rate(store, settings.alert_rate):
        store.remove(once)  # it has not been raised: the next one may be
        store.add("alert:over", 1, _KEEP_S)
        return None
    store.change(f"alert:open:{_digest(raised.type)}", _opened(raised.severity, same), _KEEP_S)
    return store.take(held), store.take("alert:over")


def _within_rate(store: Store, rate: int) -> bool:
    """Were fewer than *rate* alerts raised within the last minute? Then this one is, too. Counted by the second."""
    now, fits = int(time.time()), False

    def change(known: dict[str, Any] | None) -> dict[str, Any]:
        nonlocal fits
        counts = {second: count for second, count in (known or {}).items() if abs(now - int(second)) <= _MINUTE_S}
        fits = sum(counts.values()) < rate
        return {**counts, str(now): counts.get(str(now), 0) + 1} if fits else counts

    store.change("alert:minute", change, _MINUTE_S + 1)
    return fits


def _opened(severity: str, same: str) -> Callable[[dict[str, Any] | None], dict[str, Any]]:
    def change(known: dict[str, Any] | None) -> dict[str, Any]:
        known = known or {}
        severities = dict.fromkeys([*known.get("severities", ()), severity])
        messages = dict.fromkeys([*known.get("messages", ()), same])
        return {"severities": list(severities), "messages": list(messages)[-_MAX_OPEN:]}

    return change


def _close(store: Store, type: str) -> list[str]:
    """Forget an alert's window; the severities that it was raised with (all, where that is not known)."""
    key = f"alert:open:{_digest(type)}"
    known = store.load(key) or {}
    for same in known.get("messages", ()):
        store.remove(f"alert:once:{same}")
    store.remove(key)
    return known.get("severities") or list(_LEVELS)


def _digest(*texts: str) -> str:
    """For keys: of bounded length, and nothing of the message is in the store."""
    return blake2b("\0".join(texts).encode("utf-8", "replace"), digest_size=12).hexdigest()


def _alert(raised: _Raised, current: Runtime, left_out: tuple[int, int]) -> Alert:
    from otel_sentry.business.sinks import Alert

    settings, place = current.settings, get_current_span().get_span_context()
    pii = settings.send_default_pii
    user, business = raised.ambient.user or {}, raised.ambient.business
    trace_id = f"{place.trace_id:032x}" if place.is_valid else None
    web = (settings.web_url or "").rstrip("/")
    return Alert(
        id=raised.id,
        type=privacy.scrub_text(raised.type, pii=pii),
        severity=raised.severity,
        message=privacy.scrub_text(raised.message, pii=pii),
        at=raised.at,
        environment=settings.environment,
        service=settings.service_name,
        server=settings.server_name,
        release=settings.release,
        context=privacy.scrub(raised.context, pii=pii),
        user_id=_shown(user.get("id"), pii),
        operation=_shown(business.operation, pii) if business is not None else None,
        trace_id=trace_id,
        suppressed=left_out[0],
        suppressed_by_rate=left_out[1],
        event_url=f"{web}/issues/?query={raised.id}" if web and current.sender and not raised.resolved else None,
        trace_url=_trace_url(web if current.sender else "", settings.trace_url, place),
        resolved=raised.resolved,
    )


def _shown(value: Any, pii: bool) -> str | None:
    """An id may be an e-mail."""
    return None if value is None else privacy.scrub_text(text_of(value, _MAX_TYPE), pii=pii)


def _trace_url(web: str, template: str | None, place: SpanContext) -> str | None:
    """The trace in Sentry, else in the other backend (`OTEL_SENTRY_TRACE_URL`)."""
    if not place.is_valid or not (web or template):
        return None
    ids = {"trace_id": f"{place.trace_id:032x}", "span_id": f"{place.span_id:016x}"}
    return f"{web}/performance/trace/{ids['trace_id']}/" if web else (template or "").format(**ids)


def _to_sentry(raised: _Raised, alert: Alert) -> None:
    from otel_sentry.sentry.client import capture_message

    left_out = {"suppressed": alert.suppressed, "suppressed_by_rate": alert.suppressed_by_rate}
    moment = datetime.fromtimestamp(alert.at, timezone.utc)
    capture_message(
        alert.message or alert.type,
        level=_LEVELS[alert.severity],
        fingerprint=["business-alert", alert.type],
        contexts={
            "business_alert": {
                "alert_type": alert.type,
                "severity": alert.severity,
                **{name: number for name, number in left_out.items() if number},
                **alert.context,
            }
        },
        tags={"alert_type": alert.type, "severity": alert.severity},
        more={"event_id": alert.id, "timestamp": moment, "logger": "otel_sentry.business"},
        segment=raised.segment,
    )
