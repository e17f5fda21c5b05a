"""Our `TracerProvider`: the SDK's, with spans that remember the live exceptions they saw.

What needs a live span (the issue's ids of the innermost span, explicit `record_exception`) works on this provider only
(decision 4).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import INVALID_SPAN, SpanKind, get_current_span

from otel_sentry import errors
from otel_sentry.trace import CUSTOM_NAME, totals
from otel_sentry.trace.dsc import current_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link
    from opentelemetry.trace import Span as ApiSpan
    from opentelemetry.util.types import Attributes

#: Modules whose naming of an instrumentor's span is no wish of the user's.
_NOT_THE_USERS = ("opentelemetry.", "otel_sentry_")


class Span(sdk.Span):
    """An SDK span that tells `otel_sentry.errors` about the exceptions it records."""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """As the SDK does; and remembered, or reported when the user's own code calls it (decision 6)."""
        super().record_exception(exception, attributes, timestamp, escaped)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        errors.recorded(self, exception, by_user=not caller.startswith(("opentelemetry.", "otel_sentry")))

    def end(self, end_time: int | None = None) -> None:
        """As the SDK does. What is known only at the end is put on the span before, for every backend."""
        if self._end_time is None:
            totals.before_end(self, end_time)
        super().end(end_time)

    def update_name(self, name: str) -> None:
        """As the SDK does. A name that the user's own code gives to an instrumentor's span wins over ours."""
        super().update_name(name)
        scope = self.instrumentation_scope
        if scope is not None and scope.name.startswith("opentelemetry."):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not caller.startswith(_NOT_THE_USERS):
                self.set_attribute(CUSTOM_NAME, name)


class Tracer(sdk.Tracer):
    """An SDK tracer that makes our spans."""

    def _is_noise(self, context: Context | None) -> bool:
        """A Redis command outside of any trace: a Celery worker polls its broker with dozens of them for each task.

        Told by the scope, since contrib sets the attributes that a sampler would need only after the start.
        """
        return (
            self._instrumentation_scope.name == "opentelemetry.instrumentation.redis"
            and not get_current_span(context).get_span_context().is_valid
            and not current_settings().celery_broker_spans
        )

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> ApiSpan:
        if self._is_noise(context):
            return INVALID_SPAN
        span = super().start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        if isinstance(span, sdk.Span):
            # The SDK's tracer has no seam for the span's class; ours adds methods only, no state.
            span.__class__ = Span
        return span


class SentryTracerProvider(sdk.TracerProvider):
    """A `TracerProvider` whose tracers are `Tracer`s."""

    #: Are there exporters besides ours? Without them there is nothing to flush here.
    has_other_backends = False

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        tracer = super().get_tracer(*args, **kwargs)
        if type(tracer) is sdk.Tracer:
            tracer.__class__ = Tracer
        return tracer
