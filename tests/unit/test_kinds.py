"""What kind of error an exception is: the real classes of the libraries, told apart by name."""

from __future__ import annotations

import importlib
import socket
import sqlite3
from typing import Any

import pytest

from otel_sentry.convention.kinds import KINDS, kind_of, unreachable, upstream_of

_CASES = {
    "validation": [
        "django.core.exceptions:ValidationError", "django.core.exceptions:BadRequest",
        "rest_framework.exceptions:ValidationError", "rest_framework.exceptions:ParseError",
    ],
    "permission": [
        "builtins:PermissionError", "django.core.exceptions:PermissionDenied",
        "django.core.exceptions:DisallowedHost", "rest_framework.exceptions:NotAuthenticated",
        "rest_framework.exceptions:PermissionDenied",
    ],
    "database": [
        "django.db:IntegrityError", "django.db.utils:InterfaceError", "django.db.models:ProtectedError",
        "django.db.transaction:TransactionManagementError", "psycopg:OperationalError",
        "psycopg.errors:UniqueViolation", "psycopg.errors:ConnectionTimeout", "psycopg_pool:PoolTimeout",
        "psycopg2:IntegrityError", "psycopg2.errors:DeadlockDetected", "sqlite3:OperationalError",
        "redis:ConnectionError", "redis.exceptions:AuthenticationError", "redis:WatchError",
        "kombu.exceptions:OperationalError",
    ],
    "timeout": [
        "builtins:TimeoutError", "asyncio:TimeoutError", "concurrent.futures:TimeoutError", "socket:timeout",
        "psycopg.errors:QueryCanceled", "psycopg2.errors:QueryCanceled", "redis:TimeoutError",
        "celery.exceptions:TimeoutError", "celery.exceptions:SoftTimeLimitExceeded",
        "celery.exceptions:TimeLimitExceeded", "requests:ReadTimeout", "requests:ConnectTimeout", "httpx:ReadTimeout",
        "httpx:PoolTimeout", "urllib3.exceptions:ReadTimeoutError", "aiohttp:ServerTimeoutError",
    ],
    "external_api": [
        "builtins:ConnectionRefusedError", "requests:HTTPError", "requests:ConnectionError", "httpx:HTTPStatusError",
        "httpx:ConnectError", "urllib3.exceptions:MaxRetryError", "urllib3.exceptions:NewConnectionError",
        "aiohttp:ClientResponseError", "aiohttp:ClientConnectorError", "urllib.error:HTTPError",
        "http.client:RemoteDisconnected", "socket:gaierror", "smtplib:SMTPServerDisconnected", "ssl:SSLError",
    ],
    "other": [
        "builtins:ValueError", "builtins:ZeroDivisionError", "builtins:OSError", "builtins:KeyError",
        "django.http:Http404", "django.core.exceptions:ObjectDoesNotExist", "celery.exceptions:Retry",
        "rest_framework.exceptions:NotFound",
    ],
}  # fmt: skip


def made(path: str) -> BaseException:
    """An instance without its initialiser, whose arguments differ."""
    module, _, name = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
    except ImportError:
        pytest.skip(f"{module} is not installed")
    one: BaseException = cls.__new__(cls)
    return one


@pytest.mark.parametrize(("path", "kind"), [(path, kind) for kind, paths in _CASES.items() for path in paths])
def test_kinds(path: str, kind: str) -> None:
    """The class decides, and those it derives from; an application's own class below it is the same."""
    exc = made(path)
    assert kind_of(exc) == kind in KINDS
    own = type("Own", (type(exc),), {"__module__": "shop.errors"})
    assert kind_of(own.__new__(own)) == kind


def test_what_stands_in_for_another() -> None:
    """Django's wrapper of a driver's exception is what that one is; an exception raised from another is itself."""
    wrapper, own = made("django.db:OperationalError"), ValueError("cannot")
    wrapper.__cause__ = made("psycopg.errors:QueryCanceled")
    own.__cause__ = wrapper
    assert (kind_of(wrapper), kind_of(own), kind_of(None)) == ("timeout", "other", "other")


def test_named_alike_anywhere() -> None:
    """A ValidationError is one, whatever library it is of."""
    one: Any = type("ValidationError", (Exception,), {"__module__": "pydantic_core"})
    assert kind_of(one("no")) == "validation"


def test_groups() -> None:
    """A group is what its first member with a kind is."""
    group = type("Group", (Exception,), {"exceptions": (ValueError(), TimeoutError())})
    assert kind_of(group()) == "timeout"


@pytest.mark.parametrize(
    ("path", "system"),
    [
        ("psycopg:OperationalError", "postgresql"),
        ("psycopg.errors:AdminShutdown", "postgresql"),
        ("psycopg.errors:ConnectionTimeout", "postgresql"),
        ("psycopg2:OperationalError", "postgresql"),
        ("psycopg.errors:DeadlockDetected", None),
        ("psycopg.errors:UniqueViolation", None),
        ("redis:ConnectionError", "redis"),
        ("redis:TimeoutError", "redis"),
        ("redis:BusyLoadingError", "redis"),
        ("redis.exceptions:AuthenticationError", None),
        ("redis:ResponseError", None),
        ("builtins:ConnectionRefusedError", None),
        ("requests:ConnectionError", None),
    ],
)
def test_unreachable(path: str, system: str | None) -> None:
    """A server that is away, told by class and SQLSTATE; behind Django's and kombu's wrappers too."""
    exc = made(path)
    wrapper = made("django.db:OperationalError")
    wrapper.__cause__ = exc
    assert (unreachable(exc), unreachable(wrapper)) == (system, system)


def test_unreachable_for_real() -> None:
    """Drivers that find nobody say so; SQLite's errors are no such thing."""
    psycopg, redis = importlib.import_module("psycopg"), importlib.import_module("redis")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(psycopg.OperationalError) as refused:
            psycopg.connect(host="127.0.0.1", port=port, connect_timeout=2)
        with pytest.raises(redis.ConnectionError) as lost:
            redis.Redis(port=port).ping()
    with pytest.raises(sqlite3.Error) as wrong:
        sqlite3.connect(":memory:").execute("SELECT")
    assert [unreachable(one.value) for one in (refused, lost, wrong)] == ["postgresql", "redis", None]


def test_upstreams() -> None:
    """Host and status of a service that answered 5xx, by each client; a 4xx is our own fault."""
    requests, httpx = importlib.import_module("requests"), importlib.import_module("httpx")
    answer = requests.Response()
    answer.status_code, answer.url = 503, "https://user:pass@pay.example.test:8443/v1/charges?key=1"
    request = httpx.Request("GET", "https://pay.example.test/v1")
    refused = httpx.Response(404, request=request)
    from urllib.error import HTTPError

    found = [
        requests.HTTPError("503", response=answer),
        httpx.HTTPStatusError("500", request=request, response=httpx.Response(500, request=request)),
        HTTPError("https://pay.example.test/v1", 502, "bad gateway", None, None),  # type: ignore[arg-type]
        httpx.HTTPStatusError("404", request=request, response=refused),
        requests.ConnectionError("no route"),
        ValueError("503"),
    ]
    host = "pay.example.test"
    assert [upstream_of(one) for one in found] == [(host, 503), (host, 500), (host, 502), None, None, None]
