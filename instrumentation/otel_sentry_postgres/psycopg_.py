"""contrib's PsycopgInstrumentor (psycopg 3), in a class of ours."""

from __future__ import annotations

from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor as _Contrib

from otel_sentry.instrumentor import OneInstance


class PsycopgInstrumentor(OneInstance, _Contrib):
    """Use it as contrib's: the same options, scope and attributes."""
