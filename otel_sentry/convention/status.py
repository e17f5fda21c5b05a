"""Sentry's span status from HTTP and gRPC codes, OpenTelemetry's status and the exception's class.

The HTTP table is sentry-python's and sentry-javascript's (Relay and Go differ at 400 and 409).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    "TimeoutError": "deadline_exceeded",
    "SoftTimeLimitExceeded": "deadline_exceeded",
    "TimeLimitExceeded": "deadline_exceeded",
    "CancelledError": "cancelled",
    "QueryCanceled": "cancelled",
    "PermissionError": "permission_denied",
    "PermissionDenied": "permission_denied",
    "NotImplementedError": "unimplemented",
    "Http404": "not_found",
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


def status_of(
    code: StatusCode | None,
    message: str | None,
    data: Mapping[str, Any],
    explicit: Any,
    events: Sequence[Any],
) -> str:
    """The status of one span; the steps are those of the module's specification, in order."""
    if isinstance(explicit, str) and explicit in VALID:
        return explicit
    if data.get("celery.state") in _ABORTED:
        return "aborted"
    if code is StatusCode.OK:
        return "ok"
    http = data.get("http.response.status_code")
    inferred = from_http(http) if type(http) is int else None
    if inferred is None and ("rpc.grpc.status_code" in data or "rpc.response.status_code" in data):
        inferred = from_grpc(data.get("rpc.grpc.status_code", data.get("rpc.response.status_code")))
    if code is not StatusCode.ERROR:
        return inferred or "ok"
    if inferred is not None:
        # An exception after the response had begun: the code says 200, the span says it failed. It failed.
        return inferred if inferred != "ok" else "internal_error"
    if message is not None and message in VALID and message != "ok":
        return message
    return _from_exception(data, events) or "internal_error"


def _from_exception(data: Mapping[str, Any], events: Sequence[Any]) -> str | None:
    kind = data.get("error.type")
    for event in reversed(events):
        if event.name == "exception" and event.attributes:
            kind = event.attributes.get("exception.type", kind)
            break
    return EXCEPTIONS.get(str(kind).rpartition(".")[2]) if kind else None
