"""One JSON document to one URL, for the sinks that speak HTTP."""

from __future__ import annotations

import base64
import email.utils
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from otel_sentry.business.sinks import Refused, TryAgain
from otel_sentry.sentry import http
from otel_sentry.sentry.envelope import dumps

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

#: Seconds for the connect, and for each wait after it.
TIMEOUTS = http.Timeouts(3.0, 5.0)
_AGAIN = frozenset({408, 425, 429})


def post(url: str | None, document: Mapping[str, Any], settings: Settings, variable: str) -> None:
    """Post *document*. Raises `TryAgain` and `Refused`, whose words name the host only: paths hold keys.

    Args:
        url: where to; user and password in it become basic authentication.
        document: what; made JSON that any parser takes.
        settings: for proxies and the CA bundle.
        variable: the setting that the URL comes from, to name it.

    """
    if not url:
        raise Refused(f"{variable} is not set")
    try:
        parts = urlsplit(url)
        headers = {"Content-Type": "application/json", "User-Agent": "otel-sentry", **_credentials(parts)}
        connection = http.connect(
            url, TIMEOUTS, http_proxy=settings.http_proxy, https_proxy=settings.https_proxy, ca_certs=settings.ca_certs
        )
    except ValueError:  # its text may quote the URL
        raise Refused(f"{variable} is no URL that can be posted to") from None
    try:
        answer = connection.post(dumps(document), headers, TIMEOUTS.read)
    except http.Unreachable as exc:
        raise TryAgain(str(exc)) from None
    finally:
        if isinstance(connection, http.Direct):
            connection.close()
    if 200 <= answer.status < 300:
        return
    reason = f"{parts.hostname} answered {answer.status}"
    if answer.status in _AGAIN or answer.status >= 500:
        raise TryAgain(reason, _retry_after(answer.headers.get("retry-after")))
    raise Refused(reason)


def _credentials(parts: Any) -> dict[str, str]:
    if not parts.username:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")}


def _retry_after(text: str | None) -> float | None:
    """Seconds, or a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
