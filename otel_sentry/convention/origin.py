"""Sentry's span origin from the instrumentation scope: `auto.<category>.otel.<library>`, or `manual`.

Relay shows the user's own name for manual spans, so only an instrumentation's scope counts as auto.
"""

from __future__ import annotations

import re

_PREFIX = "opentelemetry.instrumentation."
#: The scopes of our own cache spans; contrib has none. They are a library of their own: the rules ask for it.
CACHE_SCOPES = {"otel_sentry_redis": "auto.cache.otel.redis", "otel_sentry_django": "auto.cache.otel.django"}
#: The scope of the spans that Django's `execute_wrapper` makes where no driver does.
DJANGO_DB_SCOPE = "otel_sentry.django_db"
#: The scopes of the other spans that Django's instrumentation has from us -> origin, library.
_DJANGO_SCOPES = {
    "otel_sentry.django_template": ("auto.template.otel.django", "django_template"),
    "otel_sentry.django_middleware": ("auto.middleware.otel.django", "django_middleware"),
}

CATEGORIES = {
    "http": (
        "django flask fastapi wsgi asgi starlette falcon pyramid tornado aiohttp_server "
        "requests httpx urllib urllib3 aiohttp_client"
    ),
    "db": (
        "psycopg psycopg2 asyncpg aiopg dbapi sqlalchemy pymysql mysql mysqlclient pymssql sqlite3 pymongo "
        "redis pymemcache elasticsearch cassandra tortoiseorm"
    ),
    "queue": "celery pika aio_pika kafka aiokafka confluent_kafka boto3sqs remoulade",
    "rpc": "grpc",
    "template": "jinja2",
}
_CATEGORY = {library: category for category, libraries in CATEGORIES.items() for library in libraries.split()}

#: Libraries whose spans are requests that this program answers.
WEB = frozenset(
    (
        "django",
        "flask",
        "fastapi",
        "wsgi",
        "asgi",
        "starlette",
        "falcon",
        "pyramid",
        "tornado",
        "aiohttp_server",
    )
)
_MAX_CACHED = 1024
_cache: dict[str, tuple[str, str]] = {"": ("manual", "")}
_INVALID = re.compile(r"[^A-Za-z0-9_.]")
_MAX_ORIGIN = 128


def origin_of(scope: str) -> tuple[str, str]:
    """The origin, and the short name of the library (empty for manual spans)."""
    known = _cache.get(scope)
    if known is None:
        known = _make(scope)
        if len(_cache) < _MAX_CACHED:
            _cache[scope] = known
    return known


def clean_origin(given: str) -> str:
    """An origin that the user set, in the characters that Relay takes; `manual` for an empty one."""
    return _INVALID.sub("_", given)[:_MAX_ORIGIN] or "manual"


def _make(scope: str) -> tuple[str, str]:
    if scope in CACHE_SCOPES:
        return CACHE_SCOPES[scope], "cache"
    if scope == DJANGO_DB_SCOPE:
        return "auto.db.otel.django", "dbapi"
    if scope in _DJANGO_SCOPES:
        return _DJANGO_SCOPES[scope]
    if not scope.startswith(_PREFIX):
        return "manual", ""
    library = scope[len(_PREFIX) :].partition(".")[0]
    category = _CATEGORY.get(library)
    name = _INVALID.sub("_", library)[:100]
    return (f"auto.{category}.otel.{name}" if category else f"auto.otel.{name}"), library
