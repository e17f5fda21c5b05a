"""sentry_sdk, initialised late and for errors only, with our transport (decisions 10, 11, 23).

It is imported at the first issue, or when the application imports it; never at start-up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from otel_sentry import counters, guard, runtime
from otel_sentry.sentry import compat, events, isolation, reprs, sessions, transport
from otel_sentry.trace.segment import Segment, current_segment

if TYPE_CHECKING:
    from otel_sentry.runtime import Runtime
    from otel_sentry.settings import Settings

Hook = Callable[..., Any]

_lock = threading.RLock()
#: Loggers whose events leave breadcrumbs themselves.
_OWN_CRUMBS = ("otel_sentry.business", "otel_sentry.audit")
_ready_for: Runtime | None = None
_under_way = False
#: Options of the application's own `sentry_sdk.init` that are neither settings of ours nor refused
#: (`takeover`).
extra_options: dict[str, Any] = {}
#: Its integrations that do not stand in our way.
extra_integrations: list[Any] = []
#: From which level log records become breadcrumbs.
breadcrumb_level: int | None = 20


def ensure() -> bool:
    """Initialise sentry_sdk once for the set-up in force; True when issues can be captured.

    Thread-safe and cheap when it is done. False where nothing goes to Sentry, and while it is being done.
    """
    global _under_way
    current = runtime.get()
    if current is None or current.sender is None:
        return False
    if _ready_for is current:
        return True
    # Before the lock: a thread that imports it holds its module lock, and comes here by our import hook. [ran] The
    # other way round two threads that do so at once wait for each other for ever.
    import sentry_sdk  # noqa: F401

    with _lock:
        if _ready_for is not current and not _under_way:
            _under_way = True
            try:
                _first_time(current)
            finally:
                _under_way = False
    return _ready_for is current


@guard.call("sentry_sdk set-up")
def _first_time(current: Runtime) -> None:
    import sentry_sdk

    from otel_sentry.sentry import takeover

    active = sentry_sdk.get_client()
    if active.is_active() and not takeover.is_ours(active):
        if not current.settings.take_over_init:
            _join_in(current)
            return
        takeover.merge(current, takeover.options_given_to(active))
    initialise(current)


def initialise(current: Runtime) -> None:
    """Make sentry_sdk's client anew from *current*'s settings and what the application's `init` added."""
    import sentry_sdk

    from otel_sentry.sentry import takeover

    with _lock, compat.without_spotlight(), compat.without_deprecations():
        takeover.original_init(sentry_sdk)(**options(current))
    _join_in(current)


def _join_in(current: Runtime) -> None:
    """What holds whoever made the client: trace ids, enrichment, repr guard, isolation."""
    global _ready_for
    from sentry_sdk import scope

    scope.register_external_propagation_context(_propagation_context)
    if events.enrich not in scope.global_event_processors:
        scope.add_global_event_processor(events.enrich)
    compat.install_repr_guard()
    isolation.install()
    _ready_for = current


def options(current: Runtime) -> dict[str, Any]:
    """The options of `sentry_sdk.init`, as far as this version knows them."""
    settings = current.settings
    wanted: dict[str, Any] = {
        **extra_options,
        "dsn": settings.dsn,
        "transport": transport.make(settings.dsn or "", events.delivered),
        "auto_enabling_integrations": False,
        "default_integrations": False,
        # No Dedupe: ours marks the exception, sentry_sdk's keeps the last one alive with all its frames
        # (2.x). No Modules: see `otel_sentry.sentry.modules`.
        "integrations": [
            compat.logging_integration(
                breadcrumb_level, own_logs=settings.logs, app_logs=bool(extra_options.get("enable_logs"))
            ),
            *extra_integrations,
        ],
        "spotlight": False,
        "debug": False,
        # None would make sentry_sdk run git; an empty one is taken off the event in `events.enrich`.
        "release": settings.release or "",
        "environment": settings.environment,
        "server_name": settings.server_name or None,
        "dist": settings.dist,
        "sample_rate": settings.sample_rate,
        "error_sampler": _rate_of_event,
        "max_breadcrumbs": settings.max_breadcrumbs,
        "before_send": _before_send,
        "before_breadcrumb": _before_breadcrumb,
        "before_send_log": _before_send_log,
        "before_send_metric": _before_send_metric,
        "ignore_errors": list(settings.ignore_errors),
        "in_app_include": list(settings.in_app_include),
        "in_app_exclude": list(settings.in_app_exclude),
        "traces_sample_rate": None,
        "auto_session_tracking": False,  # `sessions` counts
        # An own profiler (`profiling`, or `start_profiler` in the application) starts by hand only.
        "profile_session_sample_rate": 1.0,
        "profile_lifecycle": "manual",
        "enable_backpressure_handling": False,
        "custom_repr": reprs.chained(extra_options.get("custom_repr")),
        **compat.privacy_options(settings.send_default_pii),
    }
    known = compat.known_options()
    return {name: value for name, value in wanted.items() if name in known}


def _rate_of_event(event: Any, hint: Any) -> Any:
    """`SENTRY_SAMPLE_RATE`, or the application's own `error_sampler`; alerts are not left to chance: they come once."""
    if event.get("logger") == "otel_sentry.business":
        return 1.0
    own = extra_options.get("error_sampler")
    settings = _settings()
    return own(event, hint) if own is not None else settings.sample_rate if settings is not None else 1.0


def _propagation_context() -> tuple[str, str] | None:
    span_context = get_current_span().get_span_context()
    if not span_context.is_valid:
        return None
    return f"{span_context.trace_id:032x}", f"{span_context.span_id:016x}"


def _settings() -> Settings | None:
    current = runtime.get()
    return current.settings if current is not None else None


def run_hook(name: str, hook: Hook, item: Any, hint: Any, category: str) -> Any:
    """A user's ``before_send*`` hook; None when it dropped the item, or raised (decision 8: it is often the
    scrubber).

    The loss is counted here, since sentry_sdk's own reason differs by version.
    """
    reason = "callback_error"
    kept = None
    with guard.block(f"the {name} hook"):
        kept = hook(item, hint)
        reason = "before_send"
    if kept is None:
        counters.lost(reason, category)
        transport.expect_loss(category)
    return kept


def _before_send(event: Any, hint: Any) -> Any:
    """Scrub, then the user's own hook, then the mark that the exception has been reported."""
    settings = _settings()
    if settings is None or event.get("type") == "transaction":
        return event
    if not event.get("release"):
        event.pop("release", None)
    kept = _scrubbed(event, settings.send_default_pii)
    if kept is None:
        counters.lost("internal_sdk_error", "error")
        transport.expect_loss("error")
        return None
    if settings.before_send is not None:
        kept = run_hook("before_send", settings.before_send, kept, hint, "error")
    exc = events.exception_of(hint)
    if kept is not None and exc is not None and kept.get("event_id"):
        events.mark_captured(exc, str(kept["event_id"]))
    if kept is not None:
        sessions.note(kept, current_segment())
        events.count(hint)
    return kept


@guard.call("scrubbing an event")
def _scrubbed(event: Any, pii: bool) -> Any:
    from otel_sentry.privacy import scrub_event
    from otel_sentry.sentry.frames import trim

    return trim(scrub_event(event, pii=pii))  # in this order: half a secret is not recognised


def _before_send_log(log: Any, hint: Any) -> Any:
    settings = _settings()
    own = settings.before_send_log if settings is not None else None
    return log if own is None else run_hook("before_send_log", own, log, hint, "log_item")


def _before_send_metric(metric: Any, hint: Any) -> Any:
    settings = _settings()
    own = settings.before_send_metric if settings is not None else None
    return metric if own is None else run_hook("before_send_metric", own, metric, hint, "trace_metric")


@guard.call("the before_breadcrumb hook")
def _before_breadcrumb(crumb: Any, hint: Any) -> Any:
    if "log_record" in (hint or {}) and crumb.get("category") in _OWN_CRUMBS and current_segment():
        return None  # it has left one itself
    settings = _settings()
    own = settings.before_breadcrumb if settings is not None else None
    return crumb if own is None else own(crumb, hint)


def capture_exception(
    exc: BaseException,
    *,
    handled: bool,
    mechanism: str,
    level: str = "error",
    fingerprint: list[str] | None = None,
    contexts: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    user: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> str | None:
    """Make an issue of *exc*, once.

    Args:
        exc: the exception, with its traceback.
        handled: did the program deal with it?
        mechanism: what saw it, e.g. "django", "logging", "excepthook".
        level: Sentry level.
        fingerprint: grouping of the caller's own.
        contexts, tags, user: as in Sentry's event; they win over the scope's and the request's.
        more: further fields of the event ("logger", "logentry", "extra").

    Returns:
        the event id; that of the first report for an exception reported before; None where it was dropped.

    """
    first = events.captured_as(exc, current_segment())
    if first is not None:
        if not handled:  # it was logged on its way out: the request has crashed all the same
            sessions.note_crash(current_segment())
        return first
    if not ensure():
        return None
    event, hint = compat.event_of(exc, {"type": mechanism, "handled": handled})
    event.update(more or {})
    event_id = _capture(event, hint, level, fingerprint, contexts, tags, user)
    if event_id is not None:
        events.mark_captured(exc, event_id)
    return event_id


def capture_message(
    message: str,
    *,
    level: str = "info",
    fingerprint: list[str] | None = None,
    contexts: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    user: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    segment: Segment | None = None,
) -> str | None:
    """Make an issue of a text. As `capture_exception`; *more* may hold an ``event_id`` made beforehand.

    *segment*: where it happened, when that may have ended by now.
    """
    if not ensure():
        return None
    event: dict[str, Any] = dict(more or {})
    if "logentry" not in event:
        event["message"] = message
    hint = {} if segment is None else {events.SEGMENT_HINT: segment}
    return _capture(event, hint, level, fingerprint, contexts, tags, user)


def _capture(
    event: Any,
    hint: dict[str, Any],
    level: str,
    fingerprint: list[str] | None,
    contexts: Mapping[str, Any] | None,
    tags: Mapping[str, str] | None,
    user: Mapping[str, Any] | None,
) -> str | None:
    """As scope arguments the caller's fields win over what the scopes hold; in the event they would not."""
    import sentry_sdk

    wanted = {
        "level": level,
        "fingerprint": fingerprint,
        "contexts": reprs.plain(contexts) if contexts else None,
        "tags": dict(tags) if tags else None,
        "user": reprs.plain(user) if user else None,
    }
    return sentry_sdk.capture_event(event, hint, **{key: value for key, value in wanted.items() if value})


def _after_fork() -> None:
    """In the child: the lock may have been held by a thread that is not there."""
    global _lock, _under_way
    _lock = threading.RLock()
    _under_way = False


os.register_at_fork(after_in_child=_after_fork)


def reset() -> None:
    """Forget what was initialised (tests, and a forked child that wants a new client)."""
    global _ready_for, breadcrumb_level
    _ready_for = None
    breadcrumb_level = 20
    extra_options.clear()
    extra_integrations.clear()
