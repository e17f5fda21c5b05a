"""Cache spans around the commands of redis-py that touch keys with the configured prefixes.

A pipeline's commands have none: they are queued one by one and sent together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
import wrapt

from otel_sentry import caches, guard

SCOPE = "otel_sentry_redis"
#: Redis command -> Sentry's op, and which of the command's arguments are keys.
COMMANDS: dict[str, tuple[str, slice]] = {
    **dict.fromkeys(("GET", "GETEX"), ("cache.get", slice(1, 2))),
    "MGET": ("cache.get", slice(1, None)),
    **dict.fromkeys(("SET", "SETEX", "PSETEX", "SETNX"), ("cache.put", slice(1, 2))),
    "MSET": ("cache.put", slice(1, None, 2)),
    **dict.fromkeys(("DEL", "UNLINK"), ("cache.remove", slice(1, None))),
    **dict.fromkeys(("FLUSHDB", "FLUSHALL"), ("cache.flush", slice(0, 0))),
}
#: Where a command carries what it writes.
_VALUES = {
    **dict.fromkeys(("SET", "SETNX"), slice(2, 3)),
    **dict.fromkeys(("SETEX", "PSETEX"), slice(3, 4)),
    "MSET": slice(2, None, 2),
}
_CLIENTS: tuple[Any, ...] = (redis.Redis, redis.cluster.RedisCluster)
_ASYNC_CLIENTS: tuple[Any, ...] = (redis.asyncio.Redis, redis.asyncio.cluster.RedisCluster)


def wrap(prefixes: tuple[str, ...], provider: Any = None) -> None:
    """From now on, commands on keys that begin with one of *prefixes* are cache operations."""

    def execute_command(call: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = _operation(prefixes, args)
        if found is None:
            return call(*args, **kwargs)
        with caches.operation(SCOPE, *found, _peer(client), provider) as span:
            answer = call(*args, **kwargs)
            if span is not None:
                _describe(span, prefixes, args, answer)
            return answer

    async def execute_async(
        call: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        found = _operation(prefixes, args)
        if found is None:
            return await call(*args, **kwargs)
        with caches.operation(SCOPE, *found, _peer(client), provider) as span:
            answer = await call(*args, **kwargs)
            if span is not None:
                _describe(span, prefixes, args, answer)
            return answer

    for clients, wrapper in ((_CLIENTS, execute_command), (_ASYNC_CLIENTS, execute_async)):
        for client in clients:
            wrapt.wrap_function_wrapper(client, "execute_command", wrapper)


def unwrap() -> None:
    """Undo `wrap`."""
    for client in (*_CLIENTS, *_ASYNC_CLIENTS):
        setattr(client, "execute_command", client.execute_command.__wrapped__)


@guard.call("redis cache span")
def _operation(prefixes: tuple[str, ...], args: tuple[Any, ...]) -> tuple[str, list[str]] | None:
    """The op and the keys that may be shown; None where this command is none of the cache's."""
    known = COMMANDS.get(args[0]) if args and isinstance(args[0], str) else None
    if known is None:
        return None
    op, where = known
    keys = [key for key in map(_text, args[where]) if key.startswith(prefixes)]
    return (op, keys) if keys or op == "cache.flush" else None


def _text(key: Any) -> str:
    if isinstance(key, str):
        return key
    return bytes(key).decode("utf-8", "replace") if isinstance(key, (bytes, bytearray, memoryview)) else ""


@guard.call("redis cache span")
def _peer(client: Any) -> tuple[str, int | None] | None:
    pool = getattr(client, "connection_pool", None)  # a cluster has none
    known = getattr(pool, "connection_kwargs", {})
    host = known.get("host") or known.get("path")
    return (str(host), known.get("port")) if host else None


@guard.call("redis cache span")
def _describe(span: Any, prefixes: tuple[str, ...], args: tuple[Any, ...], answer: Any) -> None:
    op, _ = COMMANDS[args[0]]
    if op == "cache.get":
        if isinstance(answer, list):  # of MGET, which may ask for other keys as well
            found = [value for key, value in zip(args[1:], answer, strict=False) if _text(key).startswith(prefixes)]
        else:
            found = [answer]
        caches.describe(span, hit=None not in found, size=caches.size_of(found))
    elif op == "cache.put":
        caches.describe(span, size=caches.size_of(args[_VALUES[args[0]]]))
