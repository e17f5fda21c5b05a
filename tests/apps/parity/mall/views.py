"""Views that fail in every way, and some that do not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import sentry_sdk
from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.dispatch import Signal, receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from opentelemetry import trace
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import APIView

from mall import tasks

logger = logging.getLogger(__name__)
bought = Signal()


def failing_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    def middleware(request: HttpRequest) -> Any:
        if "HTTP_X_FAIL" in request.META:
            raise RuntimeError("in middleware")
        return get_response(request)

    return middleware


def enter(request: HttpRequest, name: str) -> HttpResponse:
    """Log in without a password."""
    login(request, get_user_model().objects.get(username=name))
    return HttpResponse(name)


def look(request: HttpRequest) -> HttpResponse:
    logger.info("%s looks around", request.user)
    tasks.use_stores()
    raise ValueError("in view")


def form(request: HttpRequest) -> HttpResponse:
    raise ValueError(f"in view with a form of {len(request.POST)}")


def order(request: HttpRequest) -> HttpResponse:
    raise ValueError(f"in view with JSON of {len(json.loads(request.body))}")


def chain(request: HttpRequest) -> HttpResponse:
    try:
        {}["shelf"]
    except KeyError as exc:
        raise ValueError("chained") from exc


@receiver(bought)
def on_bought(sender: Any, **kwargs: Any) -> None:
    raise ValueError("in signal")


def buy(request: HttpRequest) -> HttpResponse:
    bought.send(sender=None)
    return HttpResponse("never")


def logged(request: HttpRequest) -> HttpResponse:
    logger.error("%s shelves are empty", 3, extra={"shelf": 7})
    try:
        raise KeyError("logged")
    except KeyError:
        logger.exception("it went wrong")
    return HttpResponse("fine")


def captured(request: HttpRequest) -> HttpResponse:
    """The application speaks to sentry_sdk itself."""
    sentry_sdk.set_tag("plan", "pro")
    sentry_sdk.set_context("cart", {"items": 3})
    sentry_sdk.set_extra("depth", 2)
    sentry_sdk.add_breadcrumb(category="cart", message="added")
    sentry_sdk.capture_message("asked for help")
    try:
        raise OSError("captured")
    except OSError as exc:
        sentry_sdk.capture_exception(exc)
    return HttpResponse("fine")


async def look_async(request: HttpRequest) -> HttpResponse:
    await request.auser()
    await cache.aget("shelf")
    await get_user_model().objects.filter(username="ann").acount()
    raise ValueError("in async view")


class Orders(APIView):
    authentication_classes = ()
    permission_classes = ()

    def post(self, request: Any, what: str) -> Response:
        if what == "down":
            raise APIException("the warehouse is down")
        raise ValueError(f"in DRF with {len(request.data)}")


def page(request: HttpRequest) -> HttpResponse:
    tasks.use_stores()
    cache.set("shelf", "full")
    tasks.fine.delay()
    return render(request, "mall.html", {"names": ["ann", "bob"]})


def publish(request: HttpRequest, name: str) -> HttpResponse:
    if name == "fail":
        tasks.fail.delay(7, password="hunter2")
    else:
        tasks.app.send_task(f"mall.{name}")
    return HttpResponse("sent")


def pack(request: HttpRequest, number: int) -> HttpResponse:
    """One query, one span of its own, one task; each fourth fails."""
    with trace.get_tracer("mall").start_as_current_span("choose"):
        get_user_model().objects.filter(pk=number).exists()
    tasks.pack.delay(number)
    if number % 4 == 0:
        raise ValueError(f"view {number}")
    return HttpResponse("packed")


def talk(request: HttpRequest, name: str) -> HttpResponse:
    """*name* is that of the user who asks."""
    assert not isinstance(request.user, AnonymousUser) and request.user.get_username() == name
    tasks.talk.delay(name)
    tasks.speak(f"view-{name}", name)
    return HttpResponse(name)


async def talk_async(request: HttpRequest, name: str) -> HttpResponse:
    user = await request.auser()
    assert user.get_username() == name
    logger.info("view-%s begins", name)
    sentry_sdk.add_breadcrumb(message=f"crumb of {name}")
    sentry_sdk.set_tag("says", name)
    with trace.get_tracer("mall").start_as_current_span(f"speech of {name}", attributes={"speaker": name}):
        await asyncio.sleep(0.01)
        await get_user_model().objects.filter(username=f"asked by {name}").aexists()
        await asyncio.gather(*(asyncio.sleep(0.005) for _ in range(3)))
    logger.warning("%s ends", name)
    if name[-2] in "13579":
        raise RuntimeError(f"view-{name} failed for {name}")
    return HttpResponse(name)
