"""contrib's URLLib3Instrumentor, with a scrubbed URL."""

# mypy: disable-error-code="no-untyped-call"
# (contrib is not annotated)

from __future__ import annotations

from typing import Any

from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor as _Contrib

from otel_sentry.instrumentor import OneInstance
from otel_sentry_http.outgoing import with_hook


class URLLib3Instrumentor(OneInstance, _Contrib):
    """Use it as contrib's: the same options, scope and attributes; hooks given to `instrument` run after ours."""

    def _instrument(self, **kwargs: Any) -> None:
        super()._instrument(**with_hook(kwargs))
