"""Every touch of what sentry_sdk does not promise, guarded, with the versions in which it was seen.

Seen in 2.44.0, 2.75.0 and 3.0.0b2 unless a line says otherwise. Where a private part is missing, the feature
behind it is off and one line says so: errors still reach Sentry.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from otel_sentry import frames, guard

#: The integrations of sentry_sdk that do what OpenTelemetry or we do: never beside ours.
REPLACED_INTEGRATIONS = frozenset(
    {
        "aiohttp", "argv", "asyncpg", "atexit", "celery", "dedupe", "django", "excepthook", "httpx", "httpx2",
        "logging", "modules", "opentelemetry", "otlp", "psycopg", "redis", "stdlib", "threading",
    }
)  # fmt: skip


def versions() -> tuple[int, int]:
    """sentry_sdk's (major, minor)."""
    from sentry_sdk.consts import VERSION

    major, minor = VERSION.split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)


def known_options() -> dict[str, Any]:
    """The options that this sentry_sdk takes, with their defaults (`consts.DEFAULT_OPTIONS`)."""
    from sentry_sdk import consts

    return dict(getattr(consts, "DEFAULT_OPTIONS", {}))


def privacy_options(pii: bool) -> dict[str, Any]:
    """What makes sentry_sdk collect users, cookies and bodies, or not.

    2.x knows ``send_default_pii`` (2.75 warns about it; leaving it out means False; its ``data_collection``
    would turn off the event scrubber). 3.0 refuses it and collects everything unless told otherwise.
    """
    if versions()[0] < 3:
        return {"send_default_pii": True} if pii else {}
    off = {"mode": "off"}
    return {
        "data_collection": {
            "user_info": pii,
            "cookies": {"mode": "denylist"} if pii else off,
            "http_bodies": ["incoming_request"] if pii else [],
            "database_query_data": pii,
            "queues": pii,
            "gen_ai": {"inputs": pii, "outputs": pii},
            "mcp": {"inputs": pii, "outputs": pii},
            "graphql": {"document": True, "variables": pii},
            "stack_frame_variables": {"mode": "denylist"},
        }
    }


@contextmanager
def without_spotlight() -> Iterator[None]:
    """Keep `init` from importing ``sentry_sdk.spotlight``, which imports Django (decision 15); Spotlight is
    ours.

    ``setup_spotlight`` is imported inside the client's initialiser (2.44: only where Spotlight is on).
    """
    name = "sentry_sdk.spotlight"
    if name in sys.modules:
        yield
        return
    stub: Any = types.ModuleType(name)
    stub.setup_spotlight = lambda options: None
    stub.SpotlightClient = object
    sys.modules[name] = stub
    try:
        yield
    finally:
        if sys.modules.get(name) is stub:
            del sys.modules[name]


@contextmanager
def without_deprecations() -> Iterator[None]:
    """2.75 warns about ``send_default_pii``, which 2.x can't do without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def logging_integration(level: int | None, *, own_logs: bool = False, app_logs: bool = False) -> Any:
    """A LoggingIntegration that makes breadcrumbs only; issues are ours (3.0 renamed the arguments).

    With *own_logs* it leaves Sentry's logs to us too, also where the application's `init` says ``enable_logs=True``
    (*app_logs*). 3.0 would send logs unasked.
    """
    import inspect

    from sentry_sdk.integrations.logging import LoggingIntegration

    if versions()[0] >= 3:  # `level` is that of logs there
        logs_level = logging.INFO if app_logs and not own_logs else None
        renamed: dict[str, Any] = {"level": logs_level, "breadcrumb_level": level, "event_level": None}
        return LoggingIntegration(**renamed)
    arguments: dict[str, Any] = {"level": level, "event_level": None}
    if own_logs and "sentry_logs_level" in inspect.signature(LoggingIntegration).parameters:
        arguments["sentry_logs_level"] = None
    return LoggingIntegration(**arguments)


def logging_levels(integration: Any) -> tuple[int | None, int | None]:
    """The (breadcrumb, event) levels of an application's own LoggingIntegration."""
    crumbs = getattr(integration, "_breadcrumb_handler", None)
    # 2.x calls it `_handler`, 3.0 `_event_handler`
    events = getattr(integration, "_event_handler", None) or getattr(integration, "_handler", None)
    return (crumbs.level if crumbs else None), (events.level if events else None)


def flush_batches() -> None:
    """Send what `sentry_sdk.logger` and `sentry_sdk.metrics` hold back; nobody else does it at exit, since its
    AtexitIntegration is off."""
    module = sys.modules.get("sentry_sdk")
    client: Any = module.get_client() if module is not None and hasattr(module, "get_client") else None
    for name in ("log_batcher", "metrics_batcher"):
        batcher = getattr(client, name, None)
        # A signal may have come while this very thread was inside, with the batcher's lock in its hands.
        if batcher is not None and not getattr(getattr(batcher, "_active", None), "flag", False):
            batcher.flush()


def is_ignored_logger(name: str) -> bool:
    """Did the application call sentry_sdk's `ignore_logger(name)`? (Patterns as in `fnmatch`.)"""
    module = sys.modules.get("sentry_sdk.integrations.logging")
    if module is None:
        return False
    from fnmatch import fnmatch

    # 3.0: `_IGNORED_LOGGERS_EVENTS`
    ignored: Any = getattr(module, "_IGNORED_LOGGERS_EVENTS", None) or getattr(module, "_IGNORED_LOGGERS", ())
    return any(fnmatch(name, pattern) for pattern in ignored)


def install_repr_guard() -> None:
    """Register `reprs.processor`, and keep the serializer from evaluating lazy objects before it asks a
    processor.

    The serializer's first line is ``isinstance(obj, AnnotatedValue)``; for any other class `isinstance` goes
    on to read ``obj.__class__``, which a SimpleLazyObject answers by evaluating itself.
    """
    from sentry_sdk import serializer

    from otel_sentry.sentry import reprs

    processors = getattr(serializer, "global_repr_processors", None)
    if processors is None:
        guard.say_once("repr guard", "this sentry_sdk has no repr processors: frame locals may run queries")
        return
    if reprs.processor not in processors:
        serializer.add_global_repr_processor(reprs.processor)
    real = getattr(serializer, "AnnotatedValue", None)
    if isinstance(real, type) and type(real) is type:
        setattr(serializer, "AnnotatedValue", _exact(real))


def _exact(real: type) -> type:
    class ByType(type):
        def __instancecheck__(cls, obj: Any) -> bool:
            return real in type(obj).__mro__

    return ByType(real.__name__, (real,), {"__new__": lambda cls, *args, **kwargs: real(*args, **kwargs)})


def event_of(exc: BaseException, mechanism: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Event and hint of an exception: `utils.event_from_exception` (3.0 looks up the options itself)."""
    import sentry_sdk
    from sentry_sdk.utils import event_from_exception

    arguments: dict[str, Any] = {"mechanism": mechanism}
    if versions()[0] < 3:
        arguments["client_options"] = sentry_sdk.get_client().options
    return event_from_exception(exc, **arguments)


def scope_variables() -> tuple[Any, Any] | None:
    """``scope._isolation_scope`` and ``scope._current_scope``: context variables that every method reads."""
    from sentry_sdk import scope

    found = (getattr(scope, "_isolation_scope", None), getattr(scope, "_current_scope", None))
    if any(not hasattr(one, "get") or not hasattr(one, "set") or not hasattr(one, "reset") for one in found):
        return None
    return found


def set_scope_variables(isolation: Any, current: Any) -> None:
    """Put others in their place."""
    from sentry_sdk import scope

    setattr(scope, "_isolation_scope", isolation)
    setattr(scope, "_current_scope", current)


def scope_data(*scopes: Any) -> dict[str, Any]:
    """Tags, contexts, extra, user and level of scopes in event form, later scopes over earlier ones."""
    data: dict[str, Any] = {}
    for scope in scopes:
        for field, attribute in (("tags", "_tags"), ("contexts", "_contexts"), ("extra", "_extras")):
            values = getattr(scope, attribute, None)
            if values:
                data[field] = {**data.get(field, {}), **dict(values)}
        for field, attribute in (("user", "_user"), ("level", "_level")):
            value = getattr(scope, attribute, None)
            if value:
                data[field] = value
    return data


def user_event_processors(*scopes: Any) -> list[Callable[..., Any]]:
    """The global event processors and those of *scopes*, without ours and sentry_sdk's own."""
    from sentry_sdk import scope as module

    found = list(getattr(module, "global_event_processors", ()))
    for scope in scopes:
        found.extend(getattr(scope, "_event_processors", ()))
    return [one for one in found if not str(getattr(one, "__module__", "")).startswith(("sentry_sdk.", __package__))]


class Profiler(NamedTuple):
    """sentry_sdk's continuous profiler, started and stopped by hand."""

    start: Callable[[], None]
    stop: Callable[[], None]  # waits for the sampling thread and its last chunk
    profiler_id: Callable[[], str | None]
    thread: Callable[[], tuple[Any, Any]]  # id and name of the current one, as the samples know it


def profiler() -> Profiler | None:
    """The profiler of the active client; None where it is not ours to start, or this sentry_sdk has none."""
    try:
        from sentry_sdk.profiler import continuous_profiler
        from sentry_sdk.profiler.continuous_profiler import get_profiler_id, start_profiler, stop_profiler
        from sentry_sdk.utils import get_current_thread_meta
    except ImportError:
        return None
    scheduler: Any = getattr(continuous_profiler, "_scheduler", None)
    if not getattr(scheduler, "sampled", False) or getattr(scheduler, "lifecycle", None) != "manual":
        return None
    if frames.UNSAFE and not _sample_safely(continuous_profiler):
        return None
    if getattr(scheduler, "pid", None) not in (None, os.getpid()) and hasattr(scheduler, "lock"):
        scheduler.lock = threading.Lock()  # of a parent process, which may have held it when it forked
    return Profiler(start_profiler, stop_profiler, get_profiler_id, get_current_thread_meta)


class _Sys:
    """The module `sys`, except that the stacks of the threads are copies."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)

    def _current_frames(self) -> dict[int, frames.Still | None]:
        return {ident: frames.still(frame) for ident, frame in frames.current().items()}


def _sample_safely(module: Any) -> bool:
    """Let the sampling thread walk copies of the stacks: its own walk can crash Python 3.11 (see frames.py)."""
    if not hasattr(module, "sys"):
        return False
    module.sys = _Sys()
    return True
