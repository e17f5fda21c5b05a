"""URLs and headers: no user information, no secret parameters, no tokens in paths."""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from otel_sentry.privacy.keys import is_sensitive_key
from otel_sentry.privacy.tokens import FILTERED
from otel_sentry.privacy.values import MAX_TEXT, cut, is_url_key, scrub_text

# user:password@ where the password itself holds "/", "?" or "#"; not a port before a path.
_LOOSE_USERINFO = re.compile(r"//[^\s/?#@:\"'<>\[]{0,256}:(?!\d{0,5}(?:[/?#]|$))[^\s@]{1,256}@")
_AUTHORITY = re.compile(r"((?:^|:)//)[^\s/?#]*@")
# Views whose path carries a one-time secret (Django's reset/<uid>/<token>/, activation, invitations).
_ONE_TIME = re.compile(r"reset|passw|activat|confirm|verif|invit|magic|unsubscribe|token|login|share", re.IGNORECASE)
_OPAQUE = re.compile(r"(?=[^/]*\d)[\w~.%:=-]{16,}\Z")
_UUID_OR_SLUG = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")

_URL_HEADERS = frozenset(("referer", "referrer", "location", "origin", "content-location", "x-original-url"))
PERSONAL_HEADERS = frozenset(
    """
    x-forwarded-for x-forwarded x-real-ip forwarded forwarded-for cf-connecting-ip cf-connecting-ipv6
    true-client-ip x-client-ip x-cluster-client-ip fastly-client-ip x-originating-ip x-remote-ip
    x-remote-addr remote-addr x-appengine-user-ip x-envoy-external-address from x-forwarded-user
    x-remote-user remote-user x-user-email x-forwarded-email x-auth-request-email x-auth-request-user
    x-azure-clientip x-azure-socketip client-ip
    """.split()
)


def scrub_url(url: str, *, pii: bool = False) -> str:
    """The URL without user information, secret parameters as `[Filtered]`; path and other values stay."""
    rest = _AUTHORITY.sub(r"\1", _LOOSE_USERINFO.sub("//", cut(url), count=1), count=1)
    rest, hash_mark, fragment = rest.partition("#")
    base, question, query = rest.partition("?")
    base = scrub_path(base, pii=pii)
    if question:
        base += "?" + scrub_query(query, pii=pii)
    if hash_mark:
        base += "#" + (scrub_query(fragment, pii=pii) if "=" in fragment else scrub_text(fragment, pii=pii))
    return base


def scrub_path(path: str, *, pii: bool = False) -> str:
    """A URL path: tokens of one-time links and anything that looks like a secret are filtered."""
    path = scrub_text(path, pii=pii)
    if len(path) < 24 or not _ONE_TIME.search(path):
        return path
    start = path.find("://") + 3 if "://" in path[:16] else 0
    parts = path[start:].split("/")
    first = 1 if start else 0  # the host is no segment
    hidden = [p if i < first or not _is_opaque(p) else FILTERED for i, p in enumerate(parts)]
    return path[:start] + "/".join(hidden)


def _is_opaque(part: str) -> bool:
    return bool(_OPAQUE.match(part)) and not _UUID_OR_SLUG.match(part)


def scrub_query(query: str, *, pii: bool = False) -> str:
    """`a=1&token=x` -> `a=1&token=[Filtered]`. Names are decoded before they are judged; order is kept."""
    query = cut(query)
    if not query:
        return query
    oauth = "code=" in query and "state=" in query  # `code` alone is harmless
    return "&".join(_parameter(part, oauth, pii) for part in query.split("&"))


def _parameter(part: str, oauth: bool, pii: bool) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return _parameter_value(part, pii)
    plain = _decoded(name)
    if value and (is_sensitive_key(plain) or (oauth and plain.lstrip("?") == "code") or is_url_key(plain, value)):
        return f"{_parameter_value(name, pii)}={FILTERED}"
    return f"{_parameter_value(name, pii)}={_parameter_value(value, pii)}"


def _parameter_value(value: str, pii: bool) -> str:
    plain = _decoded(value)
    if plain == value:
        return scrub_text(value, pii=pii)
    return value if scrub_text(plain, pii=pii) == plain else FILTERED


def _decoded(text: str) -> str:
    """Undo percent-encoding, twice at most: a URL inside a parameter is encoded again."""
    for _ in range(2):
        if "%" not in text and "+" not in text:
            break
        text = unquote_plus(text, errors="replace")
    return text


def strip_url(url: str) -> str:
    """Scheme, host, port and path only."""
    rest = _AUTHORITY.sub(r"\1", _LOOSE_USERINFO.sub("//", url[:MAX_TEXT], count=1), count=1)
    return rest.partition("#")[0].partition("?")[0]


def scrub_headers(headers: Mapping[str, Any], *, pii: bool = False) -> dict[str, str]:
    """Headers to send: secrets are `[Filtered]`, addresses too unless `pii`; lists joined by `, `."""
    return {str(name): scrub_header(str(name), value, pii=pii) for name, value in headers.items()}


def scrub_header(name: str, value: Any, *, pii: bool = False) -> str:
    """One header's value. A value that is neither text, number nor list of them is filtered."""
    plain = name.lower().replace("_", "-").removeprefix("http-")
    if is_sensitive_key(plain) or (not pii and plain in PERSONAL_HEADERS):
        return FILTERED
    if isinstance(value, (list, tuple)):
        return ", ".join(scrub_header(name, item, pii=pii) for item in value)
    if isinstance(value, bytes):
        value = value[:MAX_TEXT].decode("latin-1")
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        return FILTERED
    return scrub_url(value, pii=pii) if plain in _URL_HEADERS else scrub_text(value, pii=pii)
