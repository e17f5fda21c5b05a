"""The store of business state in Redis or Valkey (`otel_sentry.business.store.Store`).

It fails fast: half a second, then `Unavailable`, and for a second more without asking the server. Commands are sent on
the business worker, where instrumentation is suppressed: they make no spans.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from otel_sentry import counters, guard
from otel_sentry.business import worker
from otel_sentry.business.store import PREFIX, Document, Unavailable

_TIMEOUT_S = 0.5
_DOWN_S = 1.0
#: How often a document is changed anew because another process was faster.
_TRIES = 50
#: Keys that `names` knows of, for each kind (the part of a key up to its first colon).
_MAX_NAMES = 10_000
_MAX_SCHEDULED = 100_000
_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError)


class RedisStore:
    """Args:
    url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads it.

    """

    def __init__(self, url: str) -> None:
        self._client: Any = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            # Once more at once: a connection kept from before the server's restart is found dead only by its use.
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        )
        self._down_until = 0.0

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        if time.monotonic() < self._down_until and not worker.probing():
            raise Unavailable
        try:
            yield self._client
        except _AWAY as exc:
            self._down_until = time.monotonic() + _DOWN_S
            guard.say_once(
                "business_redis", f"business store: {type(exc).__name__}; what waits is kept and tried again"
            )
            raise Unavailable from exc
        self._down_until = 0.0

    def first(self, key: str, ttl_s: float) -> bool:
        with self._asking() as client:
            return bool(client.set(PREFIX + key, 1, px=_ms(ttl_s), nx=True))

    def add(self, key: str, amount: int, ttl_s: float) -> int:
        with self._asking() as client, client.pipeline() as pipe:
            pipe.set(PREFIX + key, 0, px=_ms(ttl_s), nx=True)
            pipe.incrby(PREFIX + key, amount)
            self._index(pipe, key, ttl_s)
            return int(pipe.execute()[1])

    def take(self, key: str) -> int:
        with self._asking() as client, client.pipeline() as pipe:
            pipe.get(PREFIX + key)
            pipe.delete(PREFIX + key)
            return int(pipe.execute()[0] or 0)

    def window(self, key: str, window_s: float, *, member: str | None = None, limit: int = 1000) -> int:
        now = time.time()
        with self._asking() as client, client.pipeline() as pipe:
            pipe.zremrangebyscore(PREFIX + key, "-inf", now - window_s)
            pipe.zadd(PREFIX + key, {member if member is not None else uuid.uuid4().hex: now})
            pipe.zremrangebyrank(PREFIX + key, 0, -limit - 1)
            pipe.zcard(PREFIX + key)
            pipe.pexpire(PREFIX + key, _ms(window_s))
            return int(pipe.execute()[3])

    def distinct_add(self, key: str, member: str, ttl_s: float) -> int:
        with self._asking() as client, client.pipeline() as pipe:
            pipe.pfadd(PREFIX + key, member)
            pipe.pfcount(PREFIX + key)
            pipe.pexpire(PREFIX + key, _ms(ttl_s))
            self._index(pipe, key, ttl_s)
            return int(pipe.execute()[1])

    def load(self, key: str) -> Document | None:
        with self._asking() as client:
            return _document(client.get(PREFIX + key))

    def save(self, key: str, value: Document, ttl_s: float) -> None:
        with self._asking() as client, client.pipeline() as pipe:
            pipe.set(PREFIX + key, json.dumps(value), px=_ms(ttl_s))
            self._index(pipe, key, ttl_s)
            pipe.execute()

    def remove(self, key: str) -> None:
        with self._asking() as client, client.pipeline() as pipe:
            pipe.delete(PREFIX + key)
            pipe.zrem(_index_of(key), key)
            pipe.execute()

    def change(self, key: str, function: Callable[[Document | None], Document | None], ttl_s: float) -> Document | None:
        with self._asking() as client, client.pipeline() as pipe:
            for _ in range(_TRIES):
                try:
                    return self._changed(pipe, key, function, ttl_s)
                except redis.WatchError:
                    continue
        raise Unavailable  # too many at once: later

    def _changed(
        self, pipe: Any, key: str, function: Callable[[Document | None], Document | None], ttl_s: float
    ) -> Document | None:
        pipe.watch(PREFIX + key)
        value = function(_document(pipe.get(PREFIX + key)))
        pipe.multi()
        if value is None:
            pipe.delete(PREFIX + key)
            pipe.zrem(_index_of(key), key)
        else:
            pipe.set(PREFIX + key, json.dumps(value), px=_ms(ttl_s))
            self._index(pipe, key, ttl_s)
        pipe.execute()
        return value

    def names(self, prefix: str, limit: int) -> list[str]:
        # An index of our own: SCAN would go through all keys of the application.
        index = _index_of(prefix)
        with self._asking() as client, client.pipeline() as pipe:
            pipe.zremrangebyscore(index, "-inf", time.time())
            pipe.zrange(index, 0, -1)
            names = pipe.execute()[1]
        return [name for name in names if name.startswith(prefix)][:limit]

    def schedule(self, key: str, member: str, at: float, ttl_s: float) -> None:
        with self._asking() as client, client.pipeline() as pipe:
            pipe.zadd(PREFIX + key, {member: at})
            pipe.zremrangebyrank(PREFIX + key, 0, -_MAX_SCHEDULED - 1)
            pipe.pexpire(PREFIX + key, _ms(ttl_s))
            counters.lost("queue_overflow", "business", pipe.execute()[1])

    def unschedule(self, key: str, member: str) -> None:
        with self._asking() as client:
            client.zrem(PREFIX + key, member)

    def due(self, key: str, now: float, limit: int) -> list[str]:
        with self._asking() as client:
            members = client.zrangebyscore(PREFIX + key, "-inf", now, start=0, num=limit)
            if not members:
                return []
            with client.pipeline() as pipe:
                for member in members:
                    pipe.zrem(PREFIX + key, member)
                return [member for member, is_ours in zip(members, pipe.execute(), strict=True) if is_ours]

    def _index(self, pipe: Any, key: str, ttl_s: float) -> None:
        index = _index_of(key)
        pipe.zadd(index, {key: time.time() + ttl_s})
        pipe.zremrangebyrank(index, 0, -_MAX_NAMES - 1)
        pipe.pexpire(index, _ms(max(ttl_s, 8 * 86400.0)))


def _index_of(key: str) -> str:
    return f"{PREFIX}names:{key.partition(':')[0]}"


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _document(text: str | None) -> Document | None:
    return json.loads(text) if text is not None else None
