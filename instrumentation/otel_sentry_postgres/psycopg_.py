"""contrib's PsycopgInstrumentor (psycopg 3), in a class of ours."""

from __future__ import annotations

from typing import Any

from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor as _Contrib


class PsycopgInstrumentor(_Contrib):
    """Use it as contrib's: the same options, scope and attributes."""

    def __new__(cls, *args: Any, **kwargs: Any) -> PsycopgInstrumentor:
        """One instance for contrib's class and ours, so that calling contrib's too does nothing twice."""
        if not isinstance(_Contrib._instance, cls):
            former, _Contrib._instance = _Contrib._instance, object.__new__(cls)
            _Contrib._instance.__dict__.update(former.__dict__ if former else {})
        instance: PsycopgInstrumentor = _Contrib._instance
        return instance
