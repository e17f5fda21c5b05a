"""contrib's RequestsInstrumentor, with a scrubbed URL."""

from __future__ import annotations

from typing import Any

from opentelemetry.instrumentation.requests import RequestsInstrumentor as _Contrib

from otel_sentry.instrumentor import OneInstance
from otel_sentry_http.outgoing import with_hook


class RequestsInstrumentor(OneInstance, _Contrib):
    """Use it as contrib's: the same options, scope and attributes; hooks given to `instrument` run after ours."""

    def _instrument(self, **kwargs: Any) -> None:
        super()._instrument(**with_hook(kwargs))
