"""The Redis that Celery uses, for the store of business state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import _state

SCHEMES = ("redis://", "rediss://", "unix://")
#: How Celery writes redis-py's words for TLS.
_CERTIFICATES = {"CERT_REQUIRED": "required", "CERT_OPTIONAL": "optional", "CERT_NONE": "none"}


def redis_url() -> str | None:
    """The broker of an app of this process, else its result backend. Connects to nothing."""
    for name in ("broker_url", "result_backend"):
        for app in _apps():
            url = str(getattr(app.conf, name, None) or "").partition(";")[0]
            if url.startswith(SCHEMES):
                for theirs, ours in _CERTIFICATES.items():
                    url = url.replace(theirs, ours)
                return url
    return None


def _apps() -> Iterator[Any]:
    """Those that exist; asking Celery for the current one would make one."""
    return iter(list(_state._get_active_apps()))
