"""Where business state lives that several processes share: the application's Redis, or this process's memory.

All of it is called on the business worker only (`worker.submit`). Keys expire and are bounded; each may raise
`Unavailable`, and the worker then makes the whole call again later.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from otel_sentry import guard, runtime
from otel_sentry.business.worker import Unavailable

__all__ = ["Document", "Store", "Unavailable", "get", "needs_sharing"]

Document = dict[str, Any]


class Store(Protocol):
    """The operations. Each is atomic; times are seconds; documents are plain values as JSON has them."""

    def first(self, key: str, ttl_s: float) -> bool:
        """True for the first caller within *ttl_s*."""

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        """Add to a counter, which ends *ttl_s* after it began; the new value."""

    def take(self, key: str) -> int:
        """The value of a counter, which begins anew."""

    def window(self, key: str, window_s: float, *, member: str | None = None, limit: int = 1000) -> int:
        """Note an event now; how many (or, with members, how many different ones) lie within *window_s*.

        Counts up to *limit* only.
        """

    def distinct_add(self, key: str, member: str, ttl_s: float) -> int:
        """How many different members the key has seen, *member* included; an estimate (2 %) for many."""

    def load(self, key: str) -> Document | None:
        """A document."""

    def save(self, key: str, value: Document, ttl_s: float) -> None:
        """Write a document."""

    def remove(self, key: str) -> None:
        """Forget a key of any kind."""

    def change(self, key: str, function: Callable[[Document | None], Document | None], ttl_s: float) -> Document | None:
        """Replace a document by what *function* makes of it (None: remove); returns that.

        *function* may be called several times, whenever another process was faster.
        """

    def names(self, prefix: str, limit: int) -> list[str]:
        """Keys written by `save`, `change`, `add` or `distinct_add` that begin with *prefix*, at most *limit*.

        *prefix* names at least the part up to the first colon.
        """

    def schedule(self, key: str, member: str, at: float, ttl_s: float) -> None:
        """Have `due` return *member* once, from *at* on (seconds since the epoch)."""

    def unschedule(self, key: str, member: str) -> None:
        """Have `due` not return *member*."""

    def due(self, key: str, now: float, limit: int) -> list[str]:
        """Scheduled members whose time has come; each is given to one caller only."""


#: Put before every key in a shared store.
PREFIX = "otel-sentry:"
#: Library -> our module that knows which Redis the application uses with it.
_WHO_KNOWS = (("django.conf", "otel_sentry_django.store"), ("celery.app.base", "otel_sentry_celery.store"))
_chosen: tuple[int, Any, Store] | None = None
_forked = False


def get() -> Store:
    """The store of this process: `OTEL_SENTRY_STORE`, else the application's own Redis, else memory."""
    global _chosen
    current = runtime.get()
    setting = current.settings.store if current is not None else None
    known = _chosen
    if known is not None and known[:2] == (os.getpid(), setting):
        return known[2]
    store = _make(setting)
    _chosen = (os.getpid(), setting, store)
    return store


def _make(setting: str | None) -> Store:
    url = (setting or _applications_own()) if setting != "memory" else None
    if url is not None:
        with guard.block("business store"):
            try:
                return _redis(url)
            except ValueError:  # its text may quote the URL
                guard.say_once("business_store_url", "the URL of the store is none that redis-py reads; memory is used")
    from otel_sentry.business.memory import Memory

    if setting is None and _forked:
        needs_sharing()
    return Memory()


def _applications_own() -> str | None:
    """The URL of the Redis that the application uses: every process of it finds the same."""
    for library, module in _WHO_KNOWS:
        if library in sys.modules:
            with guard.block(f"store by {module}"):
                url: str | None = importlib.import_module(module).redis_url()
                if url is not None:
                    return url
    return None


def _redis(url: str) -> Store:
    """redis-py is known to `otel_sentry_redis` only, and is imported with the first business call."""
    store: Store = importlib.import_module("otel_sentry_redis.store").RedisStore(url)
    return store


def needs_sharing() -> None:
    """Something happens in several processes; in memory each of them knows its own part only."""
    if _chosen is not None and type(_chosen[2]).__name__ != "Memory":
        return
    guard.say_once(
        "business_store",
        "no Redis found: journeys, distinct users and alert limits are kept in this process only; "
        "set OTEL_SENTRY_STORE=redis://... where several processes work together",
    )


def _after_fork() -> None:
    """A server or a pool has begun: this process has siblings."""
    global _chosen, _forked
    _chosen, _forked = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
