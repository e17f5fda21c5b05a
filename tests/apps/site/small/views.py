from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import IntegrityError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponse

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
