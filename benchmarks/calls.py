"""What each public call costs on the caller's thread, with nothing configured and configured.

    python benchmarks/calls.py [ROUNDS]

Prints CPU microseconds of the calling thread for one call, and how many spans of the bare OpenTelemetry SDK (started
and ended, no processor) that is, measured in the same process: the microseconds are this machine's, the ratios are
those of the code. Each figure is the best of ROUNDS rounds of 100 calls inside one span, so what other programs do to
the machine is left out; between rounds the business worker does what was put down. Configured means: a DSN (of a
server in another process that takes everything), all traces sampled, no instrumentor.

What is guaranteed, and what the exit status says (1: not so): a call that makes no span costs at most 2 bare spans, one
that makes one at most 3.5, with an attribute and made current: bare OpenTelemetry's own `start_as_current_span` is
shown for comparison. `capture_custom_exception` makes an issue of the frames and variables that are there: that is
sentry_sdk's work, on the caller's thread, takes milliseconds, and is shown only.
"""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import otel_sentry

#: Bare spans that one call may cost: without a span of its own, and with one.
LIMIT, SPAN_LIMIT = 2.0, 3.5
SPANS = frozenset({"monitor_performance", "span"})
_CALLS = 100
#: Parts for a set-up of one's own, the set-up itself, and `explain`, which is a tool for developers.
NO_CALLS = frozenset(
    {
        "BusinessSpanProcessor", "JsonFormatter", "SentryPropagator", "SentrySampler", "SentrySpanProcessor",
        "TextFormatter", "TraceContextFilter", "UserSpanProcessor", "__version__", "configure", "explain",
    }
)  # fmt: skip
#: These wait, on purpose, until things have been sent.
WAITING = frozenset({"flush", "shutdown"})
#: These make an issue on the caller's thread when a DSN is set: frames and variables must be read there.
ISSUES = frozenset({"capture_custom_exception"})
_ARGUMENTS: dict[str, Any] = {
    "exception": ValueError("no"), "context": {"order": 7}, "tags": {"step": "upload"}, "user": {"id": "7"},
    "data": {"size": 3}, "level": "info", "threshold_ms": 1e9, "user_id": "7", "timeout_s": 60, "success": True,
    "final_data": {"total": 3}, "conversion_data": {"value": 3}, "usage_data": {"size": 3}, "value": 3, "unit": "s",
    "target": 5, "percentage": 10, "severity": "low", "details": {}, "timeout": 0.1, "fingerprint": None,
}  # fmt: skip


def public() -> dict[str, Callable[..., Any]]:
    """All public calls by name; those of an object as ``object.method``."""
    found: dict[str, Callable[..., Any]] = {}
    for name in otel_sentry.__all__:
        if name in NO_CALLS:
            continue
        one = getattr(otel_sentry, name)
        if callable(one):
            found[name] = one
            continue
        for method in dir(one):
            if method[0] != "_" and callable(getattr(one, method)):
                found[f"{name}.{method}"] = getattr(one, method)
    return found


def arguments(function: Callable[..., Any], value: Callable[[str], Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments for all parameters of *function*, each from *value* (of the parameter's name)."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            args.append(value(name))
        elif parameter.kind is parameter.KEYWORD_ONLY:
            kwargs[name] = value(name)
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs["extra_field"] = value("extra_field")
    return args, kwargs


def used(made: Any) -> Any:
    """A context manager is entered and left as well: that is the call."""
    if hasattr(made, "__enter__"):
        with made:
            pass
    return made


def sensible(name: str) -> Callable[[], Any]:
    """The call *name* with arguments as people give them."""
    function = public()[name]
    args, kwargs = arguments(function, lambda parameter: _ARGUMENTS.get(parameter, "word"))
    if name in ISSUES:
        return lambda: _reported(function)
    return lambda: used(function(*args, **kwargs))


def _reported(function: Callable[..., Any]) -> None:
    """Each time another exception: one that was reported before is none."""
    try:
        raise ValueError("no")
    except ValueError as exc:
        function(exc, {"order": 7}, {"step": "upload"})


def best(call: Callable[[], Any], rounds: int) -> float:
    """CPU microseconds of one call: the best of *rounds*."""
    from otel_sentry.business import worker

    found = float("inf")
    for _ in range(rounds):
        with otel_sentry.span("round"):
            start = time.thread_time()
            for _ in range(_CALLS):
                call()
            found = min(found, (time.thread_time() - start) / _CALLS * 1e6)
        worker.flush(5)
    return found


def _table(title: str, rounds: int, limited: Callable[[str], float]) -> list[str]:
    """Print what all calls cost; the names of those that cost more than *limited* bare spans."""
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("yardstick")
    span = best(lambda: tracer.start_span("work").end(), rounds)
    print(f"{title:44} {'CPU us':>8} {'spans':>6}")

    def show(name: str, us: float, note: str = "") -> None:
        print(f"  {name:42} {us:8.1f} {us / span:6.2f}{note}", flush=True)

    show("(a function that does nothing)", best(lambda: None, rounds))
    show("(bare OpenTelemetry: start, end)", span)
    show("(bare: start_as_current_span, attribute)", best(lambda: _current(tracer), rounds))
    over = []
    for name in public():
        if name not in WAITING:
            us, limit = best(sensible(name), rounds), limited(name)
            over += [name] if us / span > limit else []
            show(name, us, " makes an issue" if name in ISSUES else " over" if us / span > limit else "")
    return over


def _current(tracer: Any) -> None:
    with tracer.start_as_current_span("work", attributes={"extra_field": "word"}):
        pass


def _limit(name: str) -> float:
    return float("inf") if name in ISSUES else SPAN_LIMIT if name in SPANS else LIMIT


def main() -> int:
    """Print both tables; 1 where a call is over its limit."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    logging.getLogger("otel_sentry.business").addHandler(logging.NullHandler())
    logging.getLogger("otel_sentry.business").propagate = False
    over = _table("nothing configured", rounds, _limit)
    code = """import sys
from otel_sentry.cli.receiver import Receiver
with Receiver() as receiver:
    print(receiver.dsn, flush=True)
    sys.stdin.read()"""
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None and server.stdout is not None
    try:
        otel_sentry.configure(
            dsn=server.stdout.readline().strip(), environment="staging", traces_sample_rate=1.0, store="memory",
            profiles_sample_rate=0.0, instrument=False,
        )  # fmt: skip
        over += _table("configured", rounds, _limit)
        otel_sentry.shutdown()
    finally:
        server.stdin.close()
        server.wait(10)
    print(f"guaranteed: at most {LIMIT:g} bare spans a call, {SPAN_LIMIT:g} for one that makes a span, but for issues")
    print(f"over: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    os.environ.setdefault("OTEL_SENTRY_STORE", "memory")
    sys.exit(main())
