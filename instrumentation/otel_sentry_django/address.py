"""The client's address behind proxies (`OTEL_SENTRY_TRUSTED_PROXIES`). Anybody can send an ``X-Forwarded-For``."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Mapping
from typing import Any

from otel_sentry import runtime


def client_ip(meta: Mapping[str, Any]) -> str | None:
    """The address of who sent the request with *meta* (``request.META``); None where there is none.

    Without trusted proxies that of the connection. With their number *n*, what the outermost of the last *n* has seen;
    with a list, the last address that is none of theirs.
    """
    current = runtime.get()
    proxies = current.settings.trusted_proxies if current is not None else ()
    remote = str(meta.get("REMOTE_ADDR") or "")
    if not proxies:
        return remote or None
    chain = [*str(meta.get("HTTP_X_FORWARDED_FOR") or "").split(","), remote]
    if len(proxies) == 1 and proxies[0].isdecimal():
        hops = int(proxies[0])
        # Fewer addresses than proxies: it came by another way, and may say what it likes.
        found = _address(chain[-1 - hops]) if len(chain) > hops else None
        return found or remote or None
    networks = _networks(proxies)
    seen = remote
    for position, text in enumerate(reversed(chain)):
        address = _address(text)
        if address is None:
            if position == 0:  # a Unix socket: the proxy is on this host
                continue
            break
        seen = address
        if not any(ipaddress.ip_address(address) in network for network in networks):
            break
    return seen or None


def _address(text: str) -> str | None:
    """An address without its port; None where *text* is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


@functools.lru_cache(maxsize=8)
def _networks(proxies: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(ipaddress.ip_network(one, strict=False) for one in proxies)
