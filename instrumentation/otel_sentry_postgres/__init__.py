"""Postgres for otel-sentry: contrib's instrumentors of psycopg (3) and psycopg2.

This module imports neither driver nor contrib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_sentry_postgres.psycopg2_ import Psycopg2Instrumentor as Psycopg2Instrumentor
    from otel_sentry_postgres.psycopg_ import PsycopgInstrumentor as PsycopgInstrumentor

_MODULES = {"PsycopgInstrumentor": "psycopg_", "Psycopg2Instrumentor": "psycopg2_"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
