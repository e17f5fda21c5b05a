from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator

from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import IntegrityError, connection, transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

logger = logging.getLogger(__name__)


def failing_middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        if "HTTP_X_FAIL" in request.META:
            raise RuntimeError("in middleware")
        return get_response(request)

    return middleware


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def item(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(str(pk))


def boom(request: HttpRequest) -> HttpResponse:
    raise ValueError("in view")


async def boom_async(request: HttpRequest) -> HttpResponse:
    raise ValueError("in async view")


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404("nothing here")


def denied(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def bad(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation("odd")


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.get_username() or "nobody")


def who_boom(request: HttpRequest) -> HttpResponse:
    raise ValueError(f"for {request.user.pk}")


def form(request: HttpRequest) -> HttpResponse:
    raise ValueError(f"{len(request.POST)} fields")


def json_body(request: HttpRequest) -> HttpResponse:
    raise ValueError(f"{len(json.loads(request.body))} keys")


def logged(request: HttpRequest) -> HttpResponse:
    str(request.user)
    try:
        raise KeyError("handled")
    except KeyError:
        logger.exception("it went wrong")
    return HttpResponse("fine")


def query(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
    return HttpResponse("1")


def caught(request: HttpRequest) -> HttpResponse:
    users = get_user_model().objects
    try:
        with transaction.atomic():
            users.create(username="ann")
            users.create(username="ann")
    except IntegrityError:
        return HttpResponse("taken", status=409)
    return HttpResponse("created")


def slow(request: HttpRequest) -> HttpResponse:
    time.sleep(0.2)
    return HttpResponse("at last")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        for number in range(3):
            cache.get(f"part-{number}")
            time.sleep(0.05)
            yield f"{number}\n"

    return StreamingHttpResponse(parts())


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        for number in range(int(request.GET.get("parts", "3"))):
            await cache.aget(f"part-{number}")
            await asyncio.sleep(0.05)
            yield f"{number}\n"

    return StreamingHttpResponse(parts())


def stream_boom(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        yield "first"
        raise ValueError("in the body")

    return StreamingHttpResponse(parts())


async def stream_boom_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        yield "first"
        raise ValueError("in the async body")

    return StreamingHttpResponse(parts())


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))


async def wait(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(30)
    return HttpResponse("too late")


def page(request: HttpRequest) -> HttpResponse:
    return render(request, "page.html", {"names": ["ann", "bob"]})


def meta(request: HttpRequest) -> HttpResponse:
    return render(request, "meta.html")
