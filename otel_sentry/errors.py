"""Exceptions on their way to Sentry: the seam that spans, frameworks and the public API call.

Loads no sentry_sdk; that happens when the first issue is really made (decision 23).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_sentry import guard, runtime
from otel_sentry.trace.segment import segment_of

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
        return None
    from otel_sentry.sentry.client import capture_exception

    return capture_exception(
        exc, handled=handled, mechanism=mechanism, fingerprint=fingerprint, tags=tags, more=more
    )


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
        context: what was being done; shown as the block ``custom`` of the issue. Its key ``operation`` names the
            business operation.
        tags: searchable values. Names that are fields of Sentry's events (``environment``, ``release``, ...) are kept
            as ``app.<name>`` so that they never override the event.
        user: a Django user, a mapping or an id.
        level: Sentry level: fatal, error, warning, info or debug.
        fingerprint: grouping of your own, instead of Sentry's.

    Returns:
        the event id, or None where nothing is sent. Never raises.

    """
    if not _can_send() or not isinstance(exception, BaseException):
        return None
    from otel_sentry.sentry.client import capture_exception

    contexts: dict[str, Any] = {}
    if context:
        contexts["custom"] = dict(context)
        operation = context.get("operation")
        if operation:
            contexts["business_context"] = {"operation": str(operation)}
    return capture_exception(
        exception,
        handled=True,
        mechanism="custom",
        level=level,
        fingerprint=fingerprint,
        contexts=contexts or None,
        tags=_own_tags(tags),
        user=user_fields(user),
    )


_EVENT_FIELDS = frozenset(
    {"environment", "release", "level", "user", "dist", "server_name", "transaction", "site", "logger"}
)


def _own_tags(tags: Mapping[str, Any] | None) -> dict[str, str] | None:
    if not tags:
        return None
    return {(f"app.{key}" if key in _EVENT_FIELDS else str(key)): str(value)[:200] for key, value in tags.items()}


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
