"""The parts of the pipeline as public span processors, for a `TracerProvider` of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otel_sentry import guard, runtime
from otel_sentry.trace.pipeline import SpanPipeline

if TYPE_CHECKING:
    from opentelemetry.context import Context


class UserSpanProcessor(SpanPipeline):
    """Puts the ambient user (``user.id``, ``user_type``) on every span started inside it."""

    def __init__(self) -> None:
        super().__init__(copy_ambient=("user",), collect=False)


class BusinessSpanProcessor(SpanPipeline):
    """Puts the ambient business operation (``business.*``) on every span started inside it."""

    def __init__(self) -> None:
        super().__init__(copy_ambient=("business",), collect=False)


class SentrySpanProcessor(SpanPipeline):
    """Gathers segments and sends them to Sentry, on any `TracerProvider`.

    Args:
        settings: as for `configure`; by default the environment's. Without a DSN it does nothing.

    """

    def __init__(self, **settings: Any) -> None:
        from otel_sentry import bootstrap, process
        from otel_sentry import settings as table

        built = runtime.get() or bootstrap.build(table.load(None, **settings), overrides=settings)
        process.install()
        super().__init__(
            built.sampler if built else None,
            sender=bootstrap.current_sender,
            encode=built.pipeline._encode if built else None,
            max_breadcrumbs=built.settings.max_breadcrumbs if built else 0,
            late_grace=built.settings.late_grace if built else 0.0,
            copy_ambient=(),
            collect=built is not None,
            keep=built.settings.keep if built else None,
            ignore_spans=built.settings.ignore_spans if built else (),
            on_begin=built.pipeline._on_begin if built else None,
            on_finish=built.pipeline._on_finish if built else None,
            on_slow=built.pipeline._on_slow if built else None,
        )


class Guarded(SpanProcessor):
    """A user's span processor that can't break the program: the SDK lets what it raises reach the application."""

    def __init__(self, inner: SpanProcessor) -> None:
        self.inner = inner
        self._name = type(inner).__name__

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        with guard.block(f"span processor {self._name}"):
            self.inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        with guard.block(f"span processor {self._name}"):
            self.inner.on_end(span)

    def shutdown(self) -> None:
        with guard.block(f"span processor {self._name}"):
            self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        with guard.block(f"span processor {self._name}"):
            return self.inner.force_flush(timeout_millis)
        return False
