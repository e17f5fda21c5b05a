"""What each public call costs on the caller's thread, with nothing configured and configured.

    python benchmarks/calls.py [CALLS]

Prints microseconds for one call: CPU time of the calling thread (mean), and wall time (median, which on a busy machine
has other programs' time in it). Exit status 1: one of them takes more than 50 us of CPU. Configured means: a DSN (of a
server in another process that takes everything), all traces sampled, each call inside a span.
"""

from __future__ import annotations

import inspect
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import otel_sentry

LIMIT_US = 50.0
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
    return lambda: used(function(*args, **kwargs))


def measure(name: str, calls: int) -> tuple[float, float]:
    """CPU (mean) and wall (median) microseconds of one call; 100 at a time, each hundred in a span of its own."""
    call = sensible(name)
    cpu, wall = 0.0, list[float]()
    for turn in range(calls // 100 + 1):
        if turn == 1:  # the first hundred warmed up
            cpu, wall = 0.0, []
        with otel_sentry.span("round"):
            cpu_start = time.thread_time()
            for _ in range(100):
                start = time.perf_counter()
                call()
                wall.append(time.perf_counter() - start)
            cpu += time.thread_time() - cpu_start
    return cpu / len(wall) * 1e6, statistics.median(wall) * 1e6


def _yardstick() -> float:
    """CPU microseconds of one span of OpenTelemetry's SDK without any processor, here and now."""
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("yardstick")
    start = time.thread_time()
    for _ in range(1000):
        with tracer.start_as_current_span("work", attributes={"size": "word"}):
            pass
    return (time.thread_time() - start) * 1000


def _table(title: str, calls: int, leave_out: frozenset[str]) -> list[str]:
    print(f"{title:44} {'CPU us':>8} {'wall us':>8}")
    print(f"  {'(OpenTelemetry alone: one span)':42} {_yardstick():8.1f}")
    over = []
    for name in public():
        if name in WAITING:
            continue
        few = min(calls, 200) if name in leave_out else calls
        cpu, wall = measure(name, few)
        note = ""
        if cpu > LIMIT_US:
            note = " makes an issue" if name in leave_out else " over"
            over += [] if name in leave_out else [name]
        print(f"  {name:42} {cpu:8.1f} {wall:8.1f}{note}")
    return over


def main() -> int:
    """Print both tables; 1 where a call is over the limit."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    logging.getLogger("otel_sentry.business").addHandler(logging.NullHandler())
    logging.getLogger("otel_sentry.business").propagate = False
    over = _table("nothing configured", calls, frozenset())
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
        over += _table("configured", calls, ISSUES)
        otel_sentry.shutdown()
    finally:
        server.stdin.close()
        server.wait(10)
    print(f"over {LIMIT_US:g} us: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    os.environ.setdefault("OTEL_SENTRY_STORE", "memory")
    sys.exit(main())
