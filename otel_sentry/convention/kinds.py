"""What kind of error an exception is, by the names of its classes: no framework is imported for it (business.md 4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

VALIDATION, DATABASE, EXTERNAL_API, PERMISSION, TIMEOUT, OTHER = KINDS = (
    "validation", "database", "external_api", "permission", "timeout", "other",
)  # fmt: skip

#: Top package -> class -> kind; along the MRO, and the first class that is named decides. An application's own
#: exception so is what it derives from. Stores and brokers count as databases.
_TABLE: dict[str, dict[str, str]] = {
    "builtins": {
        "TimeoutError": TIMEOUT,
        "PermissionError": PERMISSION,
        "ConnectionError": EXTERNAL_API,
    },
    "django": {
        "ValidationError": VALIDATION, "BadRequest": VALIDATION, "MultiPartParserError": VALIDATION,
        "PermissionDenied": PERMISSION, "SuspiciousOperation": PERMISSION,
        "Error": DATABASE,  # django.db.utils
    },
    "rest_framework": {
        "ValidationError": VALIDATION, "ParseError": VALIDATION, "UnsupportedMediaType": VALIDATION,
        "NotAcceptable": VALIDATION,
        "AuthenticationFailed": PERMISSION, "NotAuthenticated": PERMISSION, "PermissionDenied": PERMISSION,
    },
    "psycopg": {"Error": DATABASE, "QueryCanceled": TIMEOUT},
    "psycopg2": {"Error": DATABASE, "QueryCanceledError": TIMEOUT, "QueryCanceled": TIMEOUT},
    "asyncpg": {"PostgresError": DATABASE, "InterfaceError": DATABASE, "QueryCanceledError": TIMEOUT},
    "sqlite3": {"Error": DATABASE},
    "MySQLdb": {"Error": DATABASE},
    "sqlalchemy": {"SQLAlchemyError": DATABASE, "TimeoutError": DATABASE},
    "redis": {"RedisError": DATABASE, "TimeoutError": TIMEOUT},
    "valkey": {"ValkeyError": DATABASE, "TimeoutError": TIMEOUT},
    "django_redis": {"ConnectionInterrupted": DATABASE},
    "kombu": {"OperationalError": DATABASE},
    "celery": {"TimeoutError": TIMEOUT, "BackendError": DATABASE},
    "billiard": {"TimeLimitExceeded": TIMEOUT, "SoftTimeLimitExceeded": TIMEOUT},
    "requests": {"RequestException": EXTERNAL_API, "Timeout": TIMEOUT, "ConnectTimeout": TIMEOUT},
    "httpx": {"HTTPError": EXTERNAL_API, "StreamError": EXTERNAL_API, "InvalidURL": EXTERNAL_API,
              "TimeoutException": TIMEOUT},
    "httpcore": {"NetworkError": EXTERNAL_API, "ProtocolError": EXTERNAL_API, "TimeoutException": TIMEOUT},
    "urllib3": {"HTTPError": EXTERNAL_API, "TimeoutError": TIMEOUT, "NewConnectionError": EXTERNAL_API},
    "aiohttp": {"ClientError": EXTERNAL_API, "ServerTimeoutError": TIMEOUT},
    "urllib": {"URLError": EXTERNAL_API},
    "http": {"HTTPException": EXTERNAL_API},
    "socket": {"gaierror": EXTERNAL_API, "herror": EXTERNAL_API},
    "ssl": {"SSLError": EXTERNAL_API},
    "smtplib": {"SMTPException": EXTERNAL_API},
    "botocore": {"BotoCoreError": EXTERNAL_API, "ClientError": EXTERNAL_API},
    "grpc": {"RpcError": EXTERNAL_API},
    "stripe": {"StripeError": EXTERNAL_API},
    "jwt": {"PyJWTError": PERMISSION},
    "rest_framework_simplejwt": {"TokenError": PERMISSION},
    "asyncio": {"TimeoutError": TIMEOUT},  # Python 3.10: a class of its own
    "concurrent": {"TimeoutError": TIMEOUT},
}  # fmt: skip
#: Of any other package: names that mean one thing wherever they come from (pydantic, marshmallow, jsonschema, ...).
_ANYWHERE = {"ValidationError": VALIDATION}
#: What these raise stands in for the driver's own exception, which is its cause.
_WRAPPERS = frozenset({"django", "django_redis", "kombu", "sqlalchemy"})
_MAX_DEPTH = 5

_SYSTEMS = {"psycopg": "postgresql", "psycopg2": "postgresql", "psycopg_pool": "postgresql", "asyncpg": "postgresql",
            "MySQLdb": "mysql"}  # fmt: skip
_REDIS = frozenset({"redis", "valkey"})
#: These are `ConnectionError`s of redis-py too, from a server that is there.
_REDIS_ANSWERED = frozenset({"AuthenticationError", "AuthorizationError", "MaxConnectionsError"})
_REDIS_AWAY = frozenset({"ConnectionError", "TimeoutError"})
#: PostgreSQL: connection exceptions (class 08), shut down, crashed, starting, too many connections.
_SQLSTATES = ("08", "57P01", "57P02", "57P03", "53300")
#: MySQL: too many connections, can't connect (socket, host), gone away, lost.
_MYSQL = frozenset({1040, 2002, 2003, 2006, 2013})


def kind_of(exc: BaseException | None) -> str:
    """validation, database, external_api, permission, timeout or other. Looks at classes only, never at messages."""
    for one in _unwrapped(exc):
        found = _named(one)
        if found != OTHER:
            return found
    members = getattr(exc, "exceptions", None)  # an ExceptionGroup's
    if isinstance(members, tuple):
        return next((kind for one in members if (kind := _named(one)) != OTHER), OTHER)
    return OTHER


def _named(exc: BaseException) -> str:
    for package, name in _classes(exc):
        found = _TABLE.get(package, _ANYWHERE).get(name)
        if found is not None:
            return found
    return OTHER


def _classes(exc: object) -> Iterator[tuple[str, str]]:
    """Top package and name of each class along the MRO."""
    for cls in type(exc).__mro__:
        yield str(cls.__module__).partition(".")[0], cls.__name__


def _unwrapped(exc: BaseException | None) -> Iterator[BaseException]:
    """What a wrapper was raised from, innermost first, then *exc* itself."""
    chain: list[BaseException] = []
    while exc is not None and len(chain) < _MAX_DEPTH:
        chain.append(exc)
        if str(type(exc).__module__).partition(".")[0] not in _WRAPPERS:
            break
        exc = exc.__cause__
    return reversed(chain)


def unreachable(exc: BaseException | None) -> str | None:
    """The system that was not reached: "postgresql", "mysql", "redis"; None where that is not what *exc* says."""
    for one in _unwrapped(exc):
        names = dict(reversed(list(_classes(one))))  # package -> the most special class of it
        every = {name for _, name in _classes(one)}
        if not _REDIS.isdisjoint(names):
            if every & _REDIS_AWAY and not every & _REDIS_ANSWERED:
                return "redis"
        elif "MySQLdb" in names:
            if one.args and one.args[0] in _MYSQL:
                return "mysql"
        else:
            system = next((_SYSTEMS[package] for package in names if package in _SYSTEMS), None)
            if system is not None and _postgres_away(one, every):
                return system
    return None


def _postgres_away(exc: BaseException, names: set[str]) -> bool:
    """Drivers give no SQLSTATE to what is no answer of the server: refused, closed, lost, no connection free."""
    state = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None)
    if isinstance(state, str):
        return state.startswith(_SQLSTATES)
    return "OperationalError" in names or ("InterfaceError" in names and "closed" in str(exc))


def upstream_of(exc: BaseException | None) -> tuple[str, int] | None:
    """Host and status, where *exc* says that another service answered with 500 or above."""
    if exc is None or kind_of(exc) != EXTERNAL_API:
        return None
    response: Any = getattr(exc, "response", None)
    status = next((one for one in (getattr(response, "status_code", None), getattr(exc, "status", None),
                                   getattr(exc, "code", None)) if isinstance(one, int)), 0)  # fmt: skip
    if status < 500:
        return None
    places = (response, getattr(exc, "request_info", None), exc)
    url = next((str(found) for one in places if (found := getattr(one, "url", None))), "")
    try:
        return urlsplit(url).hostname or "", status
    except ValueError:
        return "", status
