"""Authentication backends that raise: then nobody can log in, and Django has no signal for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

_MARK = "_otel_sentry_backend"

Told = Callable[[BaseException, tuple[Any, ...], dict[str, Any]], None]


def watch(backend: Any, told: Told) -> None:
    """Call *told* with what the class *backend* raises, and the arguments. Calling it again does nothing."""
    for name in ("authenticate", "aauthenticate"):
        owner = next((one for one in backend.__mro__ if name in vars(one)), None)
        call = vars(owner).get(name) if owner is not None else None
        if not inspect.isfunction(call) or hasattr(call, _MARK):
            continue
        wrapper = _asynchronous(call, told) if inspect.iscoroutinefunction(call) else _synchronous(call, told)
        setattr(wrapper, _MARK, True)
        setattr(owner, name, wrapper)


# The names of the arguments say that they are secrets: an issue shows local variables.


def _synchronous(call: Callable[..., Any], told: Told) -> Callable[..., Any]:
    @functools.wraps(call)
    def authenticate(*secrets: Any, **credentials: Any) -> Any:
        try:
            return call(*secrets, **credentials)
        except Exception as exc:
            told(exc, secrets, credentials)
            raise

    return authenticate


def _asynchronous(call: Callable[..., Any], told: Told) -> Callable[..., Any]:
    @functools.wraps(call)
    async def aauthenticate(*secrets: Any, **credentials: Any) -> Any:
        try:
            return await call(*secrets, **credentials)
        except Exception as exc:
            told(exc, secrets, credentials)
            raise

    return aauthenticate
