"""Cache spans around the commands of redis-py that touch keys with the configured prefixes.

A pipeline's commands are queued one by one and sent together: it is one operation, where those on such keys are all of
one kind. No value is copied or turned into anything: a length is all that is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.client
import redis.asyncio.cluster
import redis.client
import redis.cluster
import wrapt

from otel_sentry import caches, guard
from otel_sentry_redis.pipelines import commands_of

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
_PIPELINES: tuple[Any, ...] = (redis.client.Pipeline, redis.cluster.ClusterPipeline)
_ASYNC_PIPELINES: tuple[Any, ...] = (redis.asyncio.client.Pipeline, redis.asyncio.cluster.ClusterPipeline)
#: Which commands of a pipeline (place, arguments) are the cache's.
_Cached = list[tuple[int, tuple[Any, ...]]]

#: No failure of a pipeline: a watched key has changed, and the program tries again.
_TRY_AGAIN = (redis.WatchError,)


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

    def execute(call: Callable[..., Any], pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cached, op, keys = _pipeline(prefixes, pipeline)
        if not cached:
            return call(*args, **kwargs)
        with caches.operation(SCOPE, op, keys, _peer(pipeline), provider, expected=_TRY_AGAIN) as span:
            answers = call(*args, **kwargs)
            if span is not None:
                _describe_all(span, prefixes, cached, answers)
            return answers

    async def execute_pipeline_async(
        call: Callable[..., Any], pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        cached, op, keys = _pipeline(prefixes, pipeline)
        if not cached:
            return await call(*args, **kwargs)
        with caches.operation(SCOPE, op, keys, _peer(pipeline), provider, expected=_TRY_AGAIN) as span:
            answers = await call(*args, **kwargs)
            if span is not None:
                _describe_all(span, prefixes, cached, answers)
            return answers

    for classes, method, wrapper in (
        (_CLIENTS, "execute_command", execute_command),
        (_ASYNC_CLIENTS, "execute_command", execute_async),
        (_PIPELINES, "execute", execute),
        (_ASYNC_PIPELINES, "execute", execute_pipeline_async),
    ):
        for one in classes:
            wrapt.wrap_function_wrapper(one, method, wrapper)


def unwrap() -> None:
    """Undo `wrap`."""
    for client in (*_CLIENTS, *_ASYNC_CLIENTS):
        setattr(client, "execute_command", client.execute_command.__wrapped__)
    for pipeline in (*_PIPELINES, *_ASYNC_PIPELINES):
        setattr(pipeline, "execute", pipeline.execute.__wrapped__)


@guard.call("redis cache span", default=([], "", []))
def _pipeline(prefixes: tuple[str, ...], pipeline: Any) -> tuple[_Cached, str, list[str]]:
    """The commands of *pipeline* that are the cache's, their op, and their keys; nothing where they are of several."""
    cached: _Cached = []
    ops: set[str] = set()
    keys: list[str] = []
    for place, args in enumerate(commands_of(pipeline)):
        found = _operation(prefixes, args)
        if found is not None:
            cached.append((place, args))
            ops.add(found[0])
            if len(keys) < caches.MAX_KEYS:
                keys += found[1]
    return (cached, ops.pop(), keys) if len(ops) == 1 else ([], "", [])


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
    _describe_all(span, prefixes, [(0, args)], [answer])


@guard.call("redis cache span")
def _describe_all(span: Any, prefixes: tuple[str, ...], cached: _Cached, answers: Any) -> None:
    op, _ = COMMANDS[cached[0][1][0]]
    values: list[Any] = []
    for place, args in cached:
        if op == "cache.put":
            values += args[_VALUES[args[0]]]
        elif op == "cache.get":
            values += _found(prefixes, args, answers[place])
    if op == "cache.put":
        caches.describe(span, size=caches.size_of(values))
    elif op == "cache.get" and not any(isinstance(value, Exception) for value in values):
        caches.describe(span, hit=None not in values, size=caches.size_of(values))


def _found(prefixes: tuple[str, ...], args: tuple[Any, ...], answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        return [answer]
    # MGET may have asked for other keys as well.
    return [value for key, value in zip(args[1:], answer, strict=False) if _text(key).startswith(prefixes)]
