"""Loading instrumentors: ours in place of contrib's, each when its library is imported, none able to break another.

Lazy loading keeps start-up short (decision 23) and lets gevent patch first (decision 15).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from otel_sentry import guard

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OUR_GROUP = "otel_sentry_instrumentor"
CONTRIB_GROUP = "opentelemetry_instrumentor"

#: Instrumentor -> the module whose import makes it load. Names that are missing here load at once.
TRIGGERS = {
    "aiohttp-client": "aiohttp",
    "asgi": "asgiref",
    "asyncpg": "asyncpg",
    "boto3": "boto3",
    "botocore": "botocore",
    "celery": "celery.app.base",  # not `celery`: kombu must be imported after gevent's patch
    "django": "django.core.handlers.base",
    "elasticsearch": "elasticsearch",
    "fastapi": "fastapi",
    "flask": "flask",
    "grpc_client": "grpc",
    "grpc_server": "grpc",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "jinja2": "jinja2",
    "pika": "pika",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "pymemcache": "pymemcache",
    "pymongo": "pymongo",
    "redis": "redis",
    "requests": "requests",
    "sqlalchemy": "sqlalchemy",
    "sqlite3": "sqlite3",
    "starlette": "starlette",
    "tornado": "tornado",
    "urllib": "urllib.request",
    "urllib3": "urllib3",
}

#: contrib's own logging handler replaces `logging.basicConfig`; our log hook does what it is for.
LEFT_OUT = frozenset({"logging"})

#: Instrumentor -> "waiting", "loaded" or why it was not.
status: dict[str, str] = {}


@functools.lru_cache(maxsize=1)
def _ours() -> dict[str, EntryPoint]:
    # The one that OpenTelemetry reads its own entry points with: it keeps the result of the scan, 20 ms of start-up.
    from opentelemetry.util._importlib_metadata import entry_points

    return {entry_point.name: entry_point for entry_point in entry_points(group=OUR_GROUP)}


def load_all(disabled: Iterable[str] = ()) -> None:
    """Arrange for every installed instrumentor, as the launcher does (`configure` without the launcher)."""
    from importlib.metadata import entry_points

    off = set(disabled)
    if "*" in off:
        return
    for entry_point in entry_points(group=CONTRIB_GROUP):
        if entry_point.name not in off:
            arrange(entry_point)


def arrange(entry_point: EntryPoint) -> None:
    """Load the instrumentor of *entry_point*, ours if we have one, when its library is imported."""
    name = entry_point.name
    if name in LEFT_OUT or name in status:
        return
    status[name] = "waiting"
    load = functools.partial(_load, name, entry_point)
    trigger = TRIGGERS.get(name)
    if trigger is None:
        load()
    elif name == "django" and name in _ours():
        _defer_django(load)
    else:
        when_imported(trigger, load)
        when_imported(entry_point.module, functools.partial(_load_postponed, name, entry_point))


def when_imported(module: str, action: Callable[[], None]) -> None:
    """Call *action* after *module* has been imported; now, if it has."""
    if module in sys.modules and not _is_half_imported(module):
        action()
        return
    import wrapt

    wrapt.register_post_import_hook(lambda _module: action(), module)


def _defer_django(load: Callable[[], None]) -> None:
    """Django's settings must not be touched before the program has chosen them; the package knows when that is."""

    def defer() -> None:
        with guard.block("deferral of Django"):
            import otel_sentry_django

            otel_sentry_django.defer(load)

    def trace_caches() -> None:
        with guard.block("Django's caches"):
            from otel_sentry_django import caches

            caches.install()

    def trace_queries() -> None:
        with guard.block("Django's queries"):
            from otel_sentry_postgres import django_wrapper

            django_wrapper.install()

    def trace_templates(module: str) -> None:
        with guard.block("Django's templates"):
            from otel_sentry_django import spans

            spans.trace_templates(sys.modules[module])

    when_imported("django.core.handlers.base", defer)
    when_imported("django.core.cache", trace_caches)  # workers and commands use caches and templates too
    for module in ("django.template.backends.django", "django.template.backends.jinja2"):
        when_imported(module, functools.partial(trace_templates, module))
    when_imported("django.db", trace_queries)


#: Instrumentors whose library was imported by the import of the instrumentor's own module.
_postponed: set[str] = set()


def _load(name: str, entry_point: EntryPoint) -> None:
    if status.get(name) != "waiting" or _exiting():
        return
    if _is_half_imported(entry_point.module):
        # The application, or another instrumentor of the same module, is importing it; then comes `_load_postponed`.
        _postponed.add(name)
        return
    _load_now(name, entry_point)


def _exiting() -> bool:
    """What is imported for the last delivery needs no instrumentor, and its meters would come too late."""
    process = sys.modules.get("otel_sentry.process")
    return process is not None and process.shutting_down


def _load_postponed(name: str, entry_point: EntryPoint) -> None:
    if name in _postponed:
        _postponed.discard(name)
        _load_now(name, entry_point)


def _is_half_imported(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _load_now(name: str, entry_point: EntryPoint) -> None:
    status[name] = "loading"  # the instrumentor imports its library: the hook may fire again meanwhile
    problem: str | None = "it raised (see above)"
    with guard.block(f"instrumentor {name}"):
        problem = _instrument((_ours().get(name) or entry_point), entry_point)
    status[name] = "loaded" if problem is None else problem
    if problem is not None:
        guard.say_once(f"instrumentor:{name}", f"{name} is not instrumented: {problem}")


def _instrument(chosen: EntryPoint, contrib: EntryPoint) -> str | None:
    """Instrument; returns why not. A missing or too old library is no problem, and not worth a line."""
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    if contrib.dist is not None:
        conflict = get_dist_dependency_conflicts(contrib.dist)
        if conflict is not None:
            return str(conflict)
    try:
        instrumentor: Any = chosen.load()
    except ImportError as exc:
        return f"{type(exc).__name__}: {exc}"
    instrumentor().instrument(skip_dep_check=True)
    return None
