"""How Django's lazy objects are written into an event without a query (decision 9). Never imports Django.

sentry_sdk's own guard is part of its DjangoIntegration, which is off. Without one, a frame's locals that hold
a queryset are evaluated while the error is built: queries at the worst moment, and rows in the event.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

_PLAIN = (str, bytes, int, float, bool, type(None))
_MAX_DEPTH = 6
_MAX_ITEMS = 50


class _QueryRefused(Exception):
    """Raised into the ``__repr__`` that wanted to run a query."""


def describe(obj: Any) -> str | None:
    """The text for a queryset, model or lazy object; None for everything else."""
    django_query = sys.modules.get("django.db.models.query")
    kinds = type(obj).__mro__  # isinstance would ask a lazy object for its __class__, and so evaluate it
    if django_query is not None:
        if django_query.QuerySet in kinds:
            return _queryset(obj)
        base = sys.modules.get("django.db.models.base")
        if base is not None and base.Model in kinds:
            return _model(obj)
    functional = sys.modules.get("django.utils.functional")
    if functional is not None and functional.LazyObject in kinds:
        wrapped = obj.__dict__.get("_wrapped")
        if wrapped is None or wrapped is functional.empty:
            return f"<{type(obj).__name__} (not evaluated)>"
        return describe(wrapped) or text(wrapped) or repr(wrapped)
    return None


def _queryset(obj: Any) -> str:
    state = "not evaluated" if obj._result_cache is None else f"{len(obj._result_cache)} rows"
    label = obj.model._meta.label if obj.model is not None else "?"
    return f"<{type(obj).__name__} of {label} ({state})>"


def _model(obj: Any) -> str:
    # The instance's dictionary, not `obj.pk`: a deferred field is loaded when it is read.
    return f"<{obj._meta.label} pk={obj.__dict__.get(obj._meta.pk.attname)!r}>"


def text(obj: Any) -> str | None:
    """`repr` without queries: sentry_sdk's ``custom_repr``. None where the plain `repr` will do."""
    if type(obj) in _PLAIN:
        return None
    known = describe(obj)
    if known is not None or "django.db" not in sys.modules:
        return known
    try:
        with _no_queries():
            return repr(obj)
    except _QueryRefused:
        return f"<{type(obj).__module__}.{type(obj).__qualname__} (its repr needs the database)>"


@contextmanager
def _no_queries() -> Iterator[None]:
    """Inside, a query on any connection that this thread has opened raises."""
    connections = sys.modules["django.db"].connections
    with ExitStack() as stack:
        if connections.settings:
            for connection in connections.all(initialized_only=True):
                stack.enter_context(connection.execute_wrapper(_refuse))
        yield


def _refuse(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
    raise _QueryRefused


def processor(obj: Any, hint: Any) -> Any:
    """For `sentry_sdk.serializer.add_global_repr_processor`."""
    known = describe(obj)
    return NotImplemented if known is None else known


def chained(custom_repr: Callable[[Any], str | None] | None) -> Callable[[Any], str | None]:
    """The application's own ``custom_repr``, then ours."""
    if custom_repr is None:
        return text

    def both(obj: Any) -> str | None:
        known = describe(obj)
        return known if known is not None else custom_repr(obj) or text(obj)

    return both


def plain(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """*value* with Django's lazy objects replaced by their text, in mappings and lists too.

    For what becomes an event's ``contexts``: there the serializer looks at the class of every value, which
    evaluates it.
    """
    if type(value) in _PLAIN:
        return value
    known = describe(value)
    if known is not None or depth <= 0:
        return known if known is not None else text(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in list(value.items())[:_MAX_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in list(value)[:_MAX_ITEMS]]
    return value
