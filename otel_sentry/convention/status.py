"""Sentry's span status from HTTP and gRPC codes, OpenTelemetry's status and the exception's class.

The HTTP table is sentry-python's and sentry-javascript's (Relay and Go differ at 400 and 409).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.trace import StatusCode

from otel_sentry.convention.attributes import number

#: By gRPC code: the index is the code.
GRPC = (
    "ok",
    "cancelled",
    "unknown_error",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal_error",
    "unavailable",
    "data_loss",
    "unauthenticated",
)
VALID = frozenset(GRPC)
_GRPC_NAMES = {name.upper(): name for name in GRPC} | {
    "UNKNOWN": "unknown_error",
    "INTERNAL": "internal_error",
}

HTTP = {
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    409: "already_exists",
    413: "failed_precondition",
    429: "resource_exhausted",
    499: "cancelled",
    501: "unimplemented",
    503: "unavailable",
    504: "deadline_exceeded",
}

#: Class name of an exception that ended the span -> status, where no code says more.
EXCEPTIONS = {
    **dict.fromkeys(
        (
            "TimeoutError",
            "Timeout",
            "ReadTimeout",
            "ConnectTimeout",
            "PoolTimeout",
            "WriteTimeout",
            "ReadTimeoutError",
            "ConnectTimeoutError",
            "SoftTimeLimitExceeded",
            "TimeLimitExceeded",
        ),
        "deadline_exceeded",
    ),
    "CancelledError": "cancelled",
    "PermissionError": "permission_denied",
    "PermissionDenied": "permission_denied",
    "NotImplementedError": "unimplemented",
    "Http404": "not_found",
    # psycopg's and psycopg2's classes are named after the SQLSTATE, which the instrumentations leave out.
    "QueryCanceled": "cancelled",
    "UniqueViolation": "already_exists",
    "UndefinedTable": "not_found",
    "SerializationFailure": "aborted",
    "DeadlockDetected": "aborted",
    "LockNotAvailable": "aborted",
    "InsufficientPrivilege": "permission_denied",
    "AdminShutdown": "unavailable",
    "TooManyConnections": "resource_exhausted",
}
#: SQLSTATE (`db.response.status_code`), whole or by its class, the first two characters.
SQLSTATES = {
    "57014": "cancelled",
    "23505": "already_exists",
    "42501": "permission_denied",
    "42P01": "not_found",
    "55P03": "aborted",
    "02": "not_found",
    "08": "unavailable",
    "0A": "unimplemented",
    "22": "invalid_argument",
    "23": "failed_precondition",
    "25": "failed_precondition",
    "28": "unauthenticated",
    "40": "aborted",
    "42": "invalid_argument",
    "53": "resource_exhausted",
    "54": "out_of_range",
    "55": "failed_precondition",
    "57": "unavailable",
}
# Celery: neither success nor failure, and no error event (sentry-python's rule).
_ABORTED = ("RETRY", "IGNORED", "REJECTED")


def from_http(code: int) -> str:
    """The status for an HTTP response code."""
    known = HTTP.get(code)
    if known is not None:
        return known
    if code < 400:
        return "ok"
    if code < 500:
        return "invalid_argument"
    return "internal_error" if code < 600 else "unknown_error"


def from_grpc(code: Any) -> str | None:
    """The status for a gRPC code: an int, its digits or its name. None when it is absent."""
    if code is None:
        return None
    index = number(code)
    if index is None:
        return _GRPC_NAMES.get(str(code).upper(), "unknown_error")
    return GRPC[index] if 0 <= index < len(GRPC) else "unknown_error"


def from_sqlstate(code: Any) -> str | None:
    """The status for a SQLSTATE of five characters. None when *code* is none, or says nothing that we know."""
    if not isinstance(code, str) or len(code) != 5 or not code.isalnum():
        return None
    return SQLSTATES.get(code) or SQLSTATES.get(code[:2])


class Facts(NamedTuple):
    """What the status of a span is told from; *failed*: OpenTelemetry's own status is ERROR."""

    code: StatusCode | None
    failed: bool
    message: str | None
    data: Mapping[str, Any]
    explicit: Any
    events: Sequence[Any]


def _explicit(facts: Facts) -> str | None:
    return facts.explicit if isinstance(facts.explicit, str) and facts.explicit in VALID else None


def _celery(facts: Facts) -> str | None:
    return "aborted" if facts.data.get("celery.state") in _ABORTED else None


def _otel_ok(facts: Facts) -> str | None:
    return "ok" if facts.code is StatusCode.OK else None


def _http(facts: Facts) -> str | None:
    code = number(facts.data.get("http.response.status_code"))
    return None if code is None else _never_ok(facts, from_http(code))


def _grpc(facts: Facts) -> str | None:
    found = from_grpc(facts.data.get("rpc.grpc.status_code", facts.data.get("rpc.response.status_code")))
    return None if found is None else _never_ok(facts, found)


def _never_ok(facts: Facts, inferred: str) -> str:
    # An exception after the response had begun: the code says 200, the span says it failed. It failed.
    return "internal_error" if facts.failed and inferred == "ok" else inferred


def _unset(facts: Facts) -> str | None:
    return None if facts.failed else "ok"


def _sqlstate(facts: Facts) -> str | None:
    return from_sqlstate(facts.data.get("db.response.status_code"))


def _message(facts: Facts) -> str | None:
    return facts.message if facts.message in VALID and facts.message != "ok" else None


def _exception(facts: Facts) -> str | None:
    kind = facts.data.get("error.type")
    for event in reversed(facts.events):
        if event.name == "exception" and event.attributes:
            kind = event.attributes.get("exception.type", kind)
            break
    return EXCEPTIONS.get(str(kind).rpartition(".")[2]) if kind else None


#: The first step that has an answer is believed; those below `no error` are asked for failed spans only.
STEPS: tuple[tuple[str, Callable[[Facts], str | None]], ...] = (
    ("sentry.status", _explicit),
    ("celery.state", _celery),
    ("OpenTelemetry's OK", _otel_ok),
    ("HTTP status code", _http),
    ("gRPC status code", _grpc),
    ("no error", _unset),
    ("SQLSTATE", _sqlstate),
    ("description that is a status", _message),
    ("exception's class", _exception),
    ("error", lambda facts: "internal_error"),
)


def status_of(facts: Facts) -> str:
    """The status of one span."""
    return status_and_step(facts)[0]


def status_and_step(facts: Facts) -> tuple[str, str]:
    """The status, and the name of the step that gave it."""
    for name, step in STEPS:
        found = step(facts)
        if found is not None:
            return found, name
    return "internal_error", "error"
