"""A site and a worker that are careless with secrets, in every way there is."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any

import redis
import requests
import sentry_sdk
from celery import Celery
from conf import SECRETS as S
from django.conf import settings
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from opentelemetry import baggage, context, trace
from opentelemetry.trace import Link, Status, StatusCode

from otel_sentry import (
    alert_manager,
    business_metrics,
    capture_custom_exception,
    log_business_event,
    set_business_context,
    set_user,
    span,
    tag_business_operation,
    user_journey,
)

logger = logging.getLogger("canary")
logger.setLevel(logging.DEBUG)
tracer = trace.get_tracer("canary")
celery = Celery("app", broker=os.environ["CANARY_REDIS"], backend=os.environ["CANARY_REDIS"])


@dataclass
class Credentials:
    """Its repr shows all."""

    user: str
    access_key: str


def boom(request: HttpRequest) -> HttpResponse:
    """Secrets in locals and in a chain of exceptions; also the request's own."""
    request.POST.get("password")
    password = S["local by name"]
    headers = {"Authorization": S["local header"], "X-Api-Key": S["local api key"]}
    nested = {"deep": [{"client_secret": S["local nested"]}]}
    text = f"postgres://app:{S['local user info']}@db/app"
    credentials = Credentials("otto", S["local repr"])
    card = S["local card"]
    conf = {"SECRET_KEY": settings.SECRET_KEY}
    argument = ["--password", S["local option"]]
    try:
        try:
            raise KeyError(f"Authorization: Bearer {S['exception context']}")
        except KeyError:
            raise ValueError(f"cannot use {S['exception cause']}")
    except ValueError as exc:
        failure = RuntimeError(f"login failed: password={S['exception text']} of {S['exception card']}")
        failure.add_note(f"api_key: {S['exception note']}")
        long = "x " * 500 + S["cut in half"]
        raise failure from exc
    return HttpResponse(str((password, headers, nested, text, credentials, card, conf, argument, long)))


def spans(request: HttpRequest) -> HttpResponse:
    """Secrets on spans and in baggage."""
    link = Link(trace.get_current_span().get_span_context(), {"auth_token": S["link attribute"]})
    with tracer.start_as_current_span(f"work with {S['span name']}", links=[link]) as current:
        current.set_attribute("customer.password", S["span attribute by name"])
        current.set_attribute("note", f"dial redis://:{S['span attribute user info']}@cache:6379/0")
        current.set_attribute("cut", "z" * 1990 + f" {S['cut by a limit']}")
        current.set_attribute("list", ["a", f"Bearer {S['span attribute list']}"])
        current.set_attribute("db.query.text", f"SELECT '{S['span sql literal']}'")
        current.set_attribute("url.full", f"https://api.example/?key={S['span url key']}&page=1")
        current.add_event(f"saw {S['span event name']}", {"token": S["span event attribute"]})
        current.set_status(Status(StatusCode.ERROR, f"secret={S['span status']}"))
        token = context.attach(baggage.set_baggage("session_token", S["baggage"]))
        try:
            requests.get(
                f"{os.environ['CANARY_ELSEWHERE']}?access_token={S['outgoing query']}&q=1",
                headers={"X-Api-Key": S["outgoing header"]}, auth=("otto", S["outgoing user info"]), timeout=5,
            )  # fmt: skip
        finally:
            context.detach(token)
    with span("more", api_key=S["span() attribute"]):
        pass
    response = HttpResponse("ok")
    response.set_cookie("sessionid", S["set-cookie"])
    return response


def stores(request: HttpRequest) -> HttpResponse:
    """Secrets in statements, their parameters and their errors, in keys and arguments."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS member (email text UNIQUE, age int)")
        cursor.execute(f"INSERT INTO member (email) VALUES ('{S['sql literal']}') ON CONFLICT DO NOTHING")
        cursor.execute("INSERT INTO member (email) VALUES (%s) ON CONFLICT DO NOTHING", [S["sql parameter"]])
        cursor.execute(f"SELECT 1 -- {S['sql comment']}")
        for statement, values in (
            ("INSERT INTO member (email) VALUES (%s)", [S["sql detail"]]),
            ("INSERT INTO member (email) VALUES (%s)", [S["sql detail"]]),
            ("SELECT %s::int", [S["sql invalid input"]]),
            (f"SELECT nothing FROM nowhere WHERE x = '{S['sql error line']}'", []),
        ):
            try:
                with transaction.atomic():
                    cursor.execute(statement, values)
            except DatabaseError:
                logger.exception("the database said no")
    client = redis.Redis.from_url(os.environ["CANARY_REDIS"])
    client.set(f"session:{S['redis key']}", S["redis argument"])
    client.execute_command("HSET", "h", "f", S["redis hash"])
    try:
        client.execute_command("AUTH", "otto", S["redis auth"])
    except redis.RedisError:
        logger.warning("refused", exc_info=True)
    with client.pipeline() as pipe:
        pipe.set("p", S["redis pipeline"]).get("p").execute()
    cache.set(f"token:{S['cache key']}", S["cache value"])
    return HttpResponse("ok")


def logs(request: HttpRequest) -> HttpResponse:
    """Secrets in log records and breadcrumbs."""
    logger.info("password=%s for %s", S["log argument"], "otto")
    logger.info("got %(what)s", {"what": f"Bearer {S['log dictionary']}"})
    logger.info(f"key {S['log message']} works")
    logger.info("see extra", extra={"api_key": S["log extra"], "note": f"token: {S['log extra text']}"})
    logger.error("mail to %s with password %r", "otto", S["log error quoted"])
    logger.info('{"client_secret": "%s"}', S["log json"])
    sentry_sdk.add_breadcrumb(category="x", message=f"pwd={S['breadcrumb']}", data={"token": S["breadcrumb data"]})
    sentry_sdk.set_tag("session_id", S["sdk tag"])
    sentry_sdk.set_user({"id": "7", "email": S["sdk user e-mail"]})
    sentry_sdk.set_context("billing", {"card_number": S["sdk context"]})
    sentry_sdk.capture_message(f"secret: {S['sdk message']}", level="warning")
    raise Http404(f"no page for {S['not found']}")


@tag_business_operation("careless", module="canary", api_token="unset")
def business(request: HttpRequest) -> HttpResponse:
    """Secrets in business details, journeys, alerts, metrics."""
    set_user({"id": "7", "email": S["user e-mail"], "password": S["user field"]})
    set_business_context({"webhook_secret": S["business context"], "note": f"jwt {S['business jwt']}"})
    with tag_business_operation("inner", module="canary", client_secret=S["business detail"]):
        log_business_event("signup", {"password": S["business event"], "note": f"iban {S['business event iban']}"})
    user_journey.start_journey("signup", user_id="7", data={"otp": S["journey start"]})
    user_journey.add_step("form", {"password": S["journey step"], "note": f"api_key={S['journey text']}"})
    user_journey.add_step("note", {"note": "x" * 190 + f" {S['cut in a step']}"})
    business_metrics.track_feature_usage("f", "u", usage_data={"note": "y" * 90 + f" {S['cut in a label']}"})
    user_journey.add_step("paid", {"list": [f"token: {S['journey end']}"]})
    user_journey.complete_journey(success=False)
    business_metrics.track_feature_usage("f", "u", user_id="7", usage_data={"secret": S["feature data"]})
    business_metrics.track_kpi("k", 1.0, data={"api_key": S["kpi data"]})
    business_metrics.track_conversion_funnel("f", "step", user_id=S["funnel user"])
    alert_manager.trigger_business_alert(
        "careless", "critical", f"login with password={S['alert message']}", {"api_key": S["alert context"]}
    )
    try:
        raise ValueError("expected")
    except ValueError as exc:
        capture_custom_exception(
            exc, context={"operation": "x", "refresh_token": S["custom context"]}, tags={"auth": S["custom tag"]}
        )
    work.delay(S["celery argument"], password=S["celery keyword"])
    return HttpResponse("ok")


@celery.task(name="canary.work", bind=True, max_retries=1)
def work(self: Any, token: str, password: str) -> None:
    """Fails twice, with its arguments at hand."""
    if self.request.retries == 0:
        raise self.retry(exc=ValueError(f"again, secret={S['celery retry']}"), countdown=0)
    access_token = S["celery local"]
    raise RuntimeError(f"with {access_token and ''}authorization: Basic {S['celery exception']}")


def body(request: HttpRequest) -> HttpResponse:
    """Fails with a JSON body at hand."""
    parsed = json.loads(request.body)
    raise LookupError(f"{len(parsed)} fields")


def reset(request: HttpRequest, token: str) -> HttpResponse:
    """Fails at a one-time link."""
    raise LookupError("expired")


urlpatterns = [
    path("boom/", boom), path("spans/", spans), path("stores/", stores), path("logs/", logs),
    path("business/", business), path("body/", body), path("reset/MQ/<str:token>/", reset),
]  # fmt: skip
application = get_wsgi_application()
