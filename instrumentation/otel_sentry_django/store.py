"""The Redis that Django's cache uses, for the store of business state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from django.conf import settings

SCHEMES = ("redis://", "rediss://", "unix://")


def redis_url() -> str | None:
    """From ``CACHES``: the default cache, else the first other one that is a Redis. Connects to nothing."""
    if not settings.configured:
        return None
    caches = dict(settings.CACHES)
    for cache in [caches.pop("default", {}), *caches.values()]:
        url = _url_of(cache)
        if url is not None:
            return url
    return None


def _url_of(cache: Mapping[str, Any]) -> str | None:
    location = cache.get("LOCATION")
    if isinstance(location, (list, tuple)):  # the first is the primary
        location = location[0] if location else None
    url = str(location or "").replace(",", ";").partition(";")[0].strip()
    if not url.startswith(SCHEMES):
        return None
    options = {str(key).lower(): value for key, value in (cache.get("OPTIONS") or {}).items()}
    password, username = options.get("password"), options.get("username")
    scheme, _, rest = url.partition("://")
    if password and "@" not in rest:
        return f"{scheme}://{quote(str(username or ''), safe='')}:{quote(str(password), safe='')}@{rest}"
    return url
