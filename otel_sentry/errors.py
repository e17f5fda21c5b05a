"""Exceptions on their way to Sentry: the seam that spans, frameworks and the public API call.

Loads no sentry_sdk; that happens when the first issue is really made (decision 23).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_sentry import guard, runtime
from otel_sentry.trace.segment import current_segment, segment_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span


@guard.call("error capture")
def capture_unhandled(
    exc: BaseException,
    mechanism: str,
    handled: bool = False,
    *,
    fingerprint: list[str] | None = None,
    tags: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> str | None:
    """Report *exc*, once; for framework hooks.

    Args:
        exc: the live exception.
        mechanism: what saw it, e.g. "django" or "celery".
        handled: did the program go on as if nothing had happened?
        fingerprint: grouping, where the exception's own is of no use.
        tags: searchable values.
        more: further fields of the event ("extra", "transaction").

    Returns:
        the event id, or None where nothing is sent.

    """
    if not _can_send():
        _only_count(exc)
        return None
    from otel_sentry.sentry.client import capture_exception

    return capture_exception(exc, handled=handled, mechanism=mechanism, fingerprint=fingerprint, tags=tags, more=more)


@guard.call("capture_custom_exception")
def capture_custom_exception(
    exception: BaseException,
    context: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    user: Any = None,
    *,
    level: str = "error",
    fingerprint: list[str] | None = None,
) -> str | None:
    """Report a handled error with business context.

    Args:
        exception: the exception; its traceback is sent when it has one.
        context: what was being done; shown as the block ``custom`` of the issue. Its keys ``operation``, ``module`` and
            ``details`` name the business operation; what is not given is that of the operation around.
        tags: searchable values. ``error_type`` is the kind of error, in place of our own finding. Names that are
            fields of Sentry's events (``environment``, ``release``, ...) are kept as ``app.<name>`` so that they never
            override the event.
        user: a Django user, a mapping or an id. No query is run for it; e-mail and name leave only with
            ``SENTRY_SEND_DEFAULT_PII``.
        level: Sentry level: fatal, error, warning, info or debug.
        fingerprint: grouping of your own, instead of Sentry's, ours and the rules of the settings.

    Returns:
        the event id, or None where nothing is sent. Never raises.

    """
    if not isinstance(exception, BaseException):
        return None
    if not _can_send():
        _only_count(exception, _own_tags(tags))
        return None
    from otel_sentry.sentry.client import capture_exception

    return capture_exception(
        exception,
        handled=True,
        mechanism="custom",
        level=level if level in _LEVELS else "error",
        fingerprint=[_text(part) for part in fingerprint] if isinstance(fingerprint, list | tuple) else None,
        contexts=_own_contexts(context),
        tags=_own_tags(tags),
        user=user_fields(user),
    )


def _only_count(exc: BaseException, tags: Mapping[str, str] | None = None) -> None:
    """Nothing goes to Sentry; other backends count errors all the same."""
    if runtime.get() is None:
        return
    from otel_sentry import ambient
    from otel_sentry.business import metrics
    from otel_sentry.sentry import events, grouping

    segment = current_segment()
    if events.captured_as(exc, segment) is None:
        events.mark_captured(exc, "")
        business = ambient.current(segment).business
        block = {} if business is None else {"business_context": {"module": business.module}}
        found: Any = grouping.labels({"tags": tags, "contexts": block}, exc, segment)
        metrics.count("app.errors", **(found or {}))


_LEVELS = ("fatal", "error", "warning", "info", "debug")


def _own_contexts(context: Any) -> dict[str, Any] | None:
    if not isinstance(context, Mapping):
        return None if context is None else {"custom": {"context": context}}
    operation = context.get("operation")
    if not operation:
        return {"custom": dict(context)} if context else None
    details = context.get("details")
    business: dict[str, Any] = {"operation": _text(operation)}
    if context.get("module"):
        business["module"] = _text(context["module"])
    if isinstance(details, Mapping):
        business["details"] = dict(details)
    return {"custom": dict(context), "business_context": business}


_EVENT_FIELDS = frozenset(
    {"environment", "release", "level", "user", "dist", "server_name", "transaction", "site", "logger"}
)


def _own_tags(tags: Any) -> dict[str, str] | None:
    if not isinstance(tags, Mapping):
        return None
    named = {key if isinstance(key, str) else _text(key): value for key, value in tags.items()}
    return {f"app.{key}" if key in _EVENT_FIELDS else key: _text(value) for key, value in named.items()}


def _text(value: Any) -> str:
    """*value* in a tag; Django's lazy objects are left alone."""
    if isinstance(value, str | int | float):  # enumerations of such, too
        return str(value)[:200]
    from otel_sentry.sentry import reprs

    known = reprs.describe(value)
    if known is not None:
        return known[:200]
    texts: list[str] = []
    guard.outcome(lambda: texts.append(str(value)))
    return texts[0][:200] if texts else f"<{type(value).__name__}>"


def user_fields(user: Any) -> dict[str, Any] | None:
    """A Django user, a mapping or an id as Sentry's user fields. Runs no query: reads loaded attributes only."""
    if user is None:
        return None
    if isinstance(user, Mapping):
        return dict(user)
    if isinstance(user, str | int):
        return {"id": str(user)}
    from otel_sentry.ambient import loaded_user

    return loaded_user(user)


@guard.call("recorded exception")
def recorded(span: Span, exc: BaseException, *, by_user: bool) -> None:
    """A span recorded *exc*: remember which span saw it first; report it if the user's own code asked for that."""
    current = runtime.get()
    if current is None or current.sender is None:
        return
    segment = segment_of(span.get_span_context())
    if segment is None:
        return
    from otel_sentry.sentry.events import remember

    remember(exc, segment, span.get_span_context().span_id, span.parent.span_id if span.parent else None)
    wanted = current.settings.recorded_exceptions
    if wanted == "all" or (wanted == "explicit" and by_user and not _by_instrumentor(span)):
        from otel_sentry.sentry.client import capture_exception

        capture_exception(exc, handled=True, mechanism="otel")


def _by_instrumentor(span: Span) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name.startswith("opentelemetry.instrumentation")


def _can_send() -> bool:
    current = runtime.get()
    return current is not None and current.sender is not None
