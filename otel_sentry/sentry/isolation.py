"""One sentry_sdk isolation scope per local root, made when the application first touches it (decision 13).

Without it, `sentry_sdk.set_user` called in one request is on the errors of the next one on that thread.
sentry_sdk keeps its scopes in two context variables of its module `scope`, and reads them in every method. We
put objects in their place that look at the current segment first, so an untouched segment costs nothing at
all, and a touched one a copy of the scope that was in force outside of it.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanKind

from otel_sentry import guard
from otel_sentry.trace.segment import Segment, current_segment

#: Requests and tasks begin with an empty trail, as sentry-python's have it: what the process logged before was for
#: others. Celery's "Task ... received", which the consumer logs in the process of its threads, has their arguments.
_OF_OTHERS = (SpanKind.SERVER, SpanKind.CONSUMER)
_installed: tuple[Any, Any] | None = None


class _Token:
    """What `set` returns and `reset` takes: which of the two variables was set, and its own token."""

    __slots__ = ("token", "variable")

    def __init__(self, variable: Any, token: Any) -> None:
        self.variable = variable
        self.token = token


class ScopeVariable:
    """Stands in for a `ContextVar` of scopes: inside a live segment it holds that segment's own scope.

    A scope that the application entered inside the segment (``with sentry_sdk.isolation_scope()``) wins
    there, and there only: it is stored with the segment's ids, in a variable of ours.
    """

    def __init__(self, original: Any, attribute: str, kind: str) -> None:
        from contextvars import ContextVar

        self.original = original
        self.name = original.name if hasattr(original, "name") else attribute
        self._attribute = attribute
        self._kind = kind
        self._entered: ContextVar[tuple[tuple[int, int], Any] | None] = ContextVar(f"otel-sentry-{attribute}")

    def get(self, *default: Any) -> Any:
        segment = current_segment()
        if segment is None:
            return self.original.get(*default)
        entered = self._entered.get(None)
        if entered is not None and entered[0] == (segment.trace_id, segment.span_id):
            return entered[1]
        scope = getattr(segment, self._attribute)
        if scope is None:
            scope = self._fork()
            if getattr(segment.root or segment.live_root, "kind", None) in _OF_OTHERS:
                scope.clear_breadcrumbs()
            setattr(segment, self._attribute, scope)
        return scope

    def _fork(self) -> Any:
        from sentry_sdk.scope import Scope, ScopeType

        base = self.original.get(None)
        return base.fork() if base is not None else Scope(ty=getattr(ScopeType, self._kind))

    def set(self, scope: Any) -> _Token:
        segment = current_segment()
        if segment is None:
            return _Token(self.original, self.original.set(scope))
        return _Token(self._entered, self._entered.set(((segment.trace_id, segment.span_id), scope)))

    def reset(self, token: _Token) -> None:
        token.variable.reset(token.token)


def install() -> bool:
    """Put our variables in place of sentry_sdk's. Idempotent; False where this sentry_sdk has none."""
    global _installed
    from otel_sentry.sentry import compat

    if _installed is not None:
        return True
    found = compat.scope_variables()
    if found is None:
        guard.say_once("isolation", "this sentry_sdk's scopes can't be isolated per request: set_user may leak")
        return False
    _installed = found
    compat.set_scope_variables(
        ScopeVariable(found[0], "isolation_scope", "ISOLATION"),
        ScopeVariable(found[1], "current_scope", "CURRENT"),
    )
    return True


def uninstall() -> None:
    """Give sentry_sdk its own variables back (tests)."""
    global _installed
    if _installed is not None:
        from otel_sentry.sentry import compat

        compat.set_scope_variables(*_installed)
        _installed = None


def drop(segment: Segment) -> None:
    """Forget the segment's scopes once it has been encoded."""
    segment.isolation_scope = None
    segment.current_scope = None
