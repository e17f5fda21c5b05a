"""The body of a request, for an error event: what Django, or Django REST framework, has read, or what is safe to read.

Within sentry-python's bounds (its `max_request_body_size=medium`), and never by `request.POST` or `request.FILES`: a
view that reads the body later must find it as it was.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, QueryDict, RawPostDataException
from django.http.multipartparser import MultiPartParser, MultiPartParserError

#: Bytes of a body, and characters of one form field, that go into an event. Of longer bodies only the size is told.
MAX_BODY = 10_000
MAX_FIELD = 1_000
MAX_FIELDS = 100
_FAILED = "_otel_sentry_failed"
_DRF = "_otel_sentry_drf"


def failed(request: HttpRequest) -> None:
    """The view has ended with an exception: nobody reads the server's stream any more, so that we may."""
    request.__dict__[_FAILED] = True


def parsed_by(request: HttpRequest, drf_request: Any) -> None:
    """*drf_request* (a weak reference) reads the body of *request*, and keeps what it parsed for itself."""
    request.__dict__[_DRF] = drf_request


def data_of(request: HttpRequest) -> Any:
    """Form fields, JSON, or a text in angle brackets in their place; None where there is no body or it is unknown."""
    known = request.__dict__
    length = _length(request)
    if length > MAX_BODY and not known.get("_files"):
        return f"<{length} bytes>" if length else None
    if known.get("_post") or known.get("_files"):
        return _form(known.get("_post"), known.get("_files"))
    found = _of_drf(known.get(_DRF))
    if found is not None:
        return found
    body = known["_body"] if "_body" in known else _read(request, length)
    return _parsed(request, body) if isinstance(body, bytes) and body else None


def _length(request: HttpRequest) -> int:
    body = request.__dict__.get("_body")
    if isinstance(body, bytes):
        return len(body)
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _read(request: HttpRequest, length: int) -> bytes | None:
    """The body that nobody has read. Under ASGI it is here already; a WSGI server's stream may be the view's own."""
    if not length or getattr(request, "_read_started", True):
        return None
    if not (isinstance(request, ASGIRequest) or request.__dict__.get(_FAILED)):
        return None
    try:
        body: bytes = request.body  # keeps it, and a fresh stream of it, for whoever reads after us
    except (OSError, ValueError, RawPostDataException, SuspiciousOperation):
        return None
    return body


def _parsed(request: HttpRequest, body: bytes) -> Any:
    kind = (request.content_type or "").lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            return _form(QueryDict(body, encoding=request.encoding or "utf-8"), None)
        if kind == "multipart/form-data":
            handler = MemoryFileUploadHandler(request)
            parser = MultiPartParser(request.META, io.BytesIO(body), [handler], request.encoding)
            return _form(*parser.parse())
        if kind.endswith("json"):
            return json.loads(body)
    except (ValueError, LookupError, RecursionError, SuspiciousOperation, MultiPartParserError):
        pass
    return f"<{len(body)} bytes>"


def _of_drf(reference: Any) -> Any:
    drf_request = reference() if reference is not None else None
    data = drf_request.__dict__.get("_full_data") if drf_request is not None else None
    if isinstance(data, QueryDict) or hasattr(data, "lists"):
        return _form(data, drf_request.__dict__.get("_files"))
    return data if isinstance(data, (dict, list, str, int, float)) and data != {} else None


def _form(fields: Any, files: Any) -> dict[str, Any]:
    return {**_fields(fields.lists() if fields else ()), **_files(files or {})}


def _fields(lists: Iterable[tuple[str, list[Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in lists:
        if len(found) == MAX_FIELDS:
            break
        texts = [_text(value) for value in values[:MAX_FIELDS]]
        found[name] = texts[0] if len(texts) == 1 else texts
    return found


def _text(value: Any) -> str:
    size = getattr(value, "size", None)  # DRF puts files among the fields
    return f"<file of {size} bytes>" if size is not None else str(value)[:MAX_FIELD]


def _files(files: Mapping[str, Any]) -> dict[str, str]:
    """Uploads by size only: names and contents are the user's."""
    return {name: f"<file of {files[name].size} bytes>" for name in list(files)[:MAX_FIELDS]}
