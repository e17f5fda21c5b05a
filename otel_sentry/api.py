"""The small functions of the public API: custom spans, flush, shutdown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from opentelemetry import trace

from otel_sentry import guard, process, runtime
from otel_sentry.blocks import Block, Opened, end_span, name_of, plain_name, tracer

if TYPE_CHECKING:
    from typing import ParamSpec

    from otel_sentry.convention import Explanation

    P = ParamSpec("P")

R = TypeVar("R")


class SpanBlock(Block[trace.Span]):
    """What `span` returns."""

    def __init__(self, name: str | None, attributes: dict[str, Any]) -> None:
        super().__init__()
        self._name = name
        self._attributes = attributes

    def _take_from(self, function: Callable[..., Any]) -> None:
        self._name = self._name or name_of(function)

    def _open(self) -> Opened:
        one = tracer().start_span(self._name or "block", attributes=self._attributes)
        return Opened(trace.set_span_in_context(one), one, functools.partial(end_span, one))


@overload
def span(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def span(name: str | None = None, /, **attributes: Any) -> SpanBlock: ...


def span(name: Any = None, /, **attributes: Any) -> Any:
    """A custom span; context manager and decorator, for functions, coroutines and generators::

        with span("resize", width=800):
            ...

        @span  # named after the function
        def resize(image): ...

    An exception that leaves it is recorded on the span. It is always the current span's child.

    Args:
        name: what is done; keep it free of ids. Default: the decorated function's name.
        attributes: values; primitive ones or sequences of them.

    """
    if callable(name):
        return SpanBlock(None, attributes)(name)
    return SpanBlock(plain_name(name), attributes)


def explain(span: Any) -> Explanation:
    """Which rules make *span* what it is in Sentry; ``print(explain(span))`` says it in words.

    Args:
        span: an SDK span, running or finished. A running one may still change: instrumentors add attributes at the end.

    """
    from otel_sentry.convention import explain as explained  # its tables are not needed at start-up

    current = runtime.get()
    style = current.settings.django_transaction_style if current is not None else "otel"
    parent = span.parent
    return explained(span, is_root=parent is None or parent.is_remote, style=style)


@guard.call("flush", default=False)
def flush(timeout: float | None = None) -> bool:
    """Send what is there. True when all left within *timeout* seconds (default: `OTEL_SENTRY_SHUTDOWN_TIMEOUT`)."""
    return process.flush_now(timeout)


def shutdown() -> None:
    """Send what is there and stop, within `OTEL_SENTRY_SHUTDOWN_TIMEOUT` seconds. Done for you at exit."""
    process.shutdown()
