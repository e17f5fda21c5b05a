"""Django for otel-sentry: contrib's instrumentor with ours on top, loaded when Django's settings are ready.

contrib reads ``settings.MIDDLEWARE`` as it instruments and, where the settings can't be read yet, calls
``settings.configure()``: an app that sets ``DJANGO_SETTINGS_MODULE`` in manage.py or wsgi.py then runs on
empty settings. `defer` waits for the first ``BaseHandler.load_middleware``, which only a server or
a test client calls, after ``django.setup()``.

This module imports neither Django nor contrib: the distro imports it at every start.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import wrapt

from otel_sentry import guard

if TYPE_CHECKING:
    from otel_sentry_django.instrumentor import DjangoInstrumentor as DjangoInstrumentor


def defer(load: Callable[[], Any]) -> None:
    """Call *load* once, when the first handler of this process is about to read ``settings.MIDDLEWARE``.

    Works for WSGI, ASGI, runserver and the test client; processes without a handler (management commands,
    Celery workers) never call it.
    """
    wrapt.register_post_import_hook(functools.partial(_wrap_load_middleware, load), "django.core.handlers.base")
    wrapt.register_post_import_hook(_wrap_decorators, "django.contrib.auth.decorators")


def _wrap_decorators(module: ModuleType) -> None:
    """Before any view is decorated, whenever the application imports its views."""
    with guard.block("django decorators"):
        from otel_sentry_django import crumbs

        crumbs.decorators(module)


def _wrap_load_middleware(load: Callable[[], Any], module: ModuleType) -> None:
    handler = module.BaseHandler
    original = handler.load_middleware
    pending = [load]

    @functools.wraps(original)
    def load_middleware(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            loader = pending.pop()
        except IndexError:  # a second handler, or somebody wrapped us and keeps calling
            return original(self, *args, **kwargs)
        if handler.load_middleware is load_middleware:
            handler.load_middleware = original
        with guard.block("django instrumentor"):
            loader()
        return original(self, *args, **kwargs)

    handler.load_middleware = load_middleware


def __getattr__(name: str) -> Any:
    if name == "DjangoInstrumentor":
        from otel_sentry_django.instrumentor import DjangoInstrumentor

        return DjangoInstrumentor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
