"""Which app a running view belongs to."""

from __future__ import annotations

import functools

from django.apps import apps
from django.http import HttpRequest


def module_of(request: HttpRequest) -> str | None:
    """The label of the app whose view answers *request*; None before the URL is resolved, and for views of no app."""
    match = request.resolver_match
    if match is None:
        return None
    view = getattr(match.func, "view_class", None) or getattr(match.func, "cls", None) or match.func
    return _label(getattr(view, "__module__", None) or "")


@functools.lru_cache(maxsize=1000)
def _label(module: str) -> str | None:
    config = apps.get_containing_app_config(module)
    return config.label if config is not None else None
