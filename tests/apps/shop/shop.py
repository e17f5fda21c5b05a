"""A shop in one file: Django and Celery on one Redis. What is bought there goes through two requests and two tasks."""

import os

import django
from celery import Celery
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from otel_sentry import user_journey

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="shop",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["SHOP_REDIS"]}
    },
    LOGGING_CONFIG=None,
    USE_TZ=True,
)
django.setup()
app = Celery("shop", broker=os.environ["SHOP_REDIS"])
app.conf.update(
    task_routes={"shop.pay": {"queue": "pay"}, "shop.ship": {"queue": "ship"}},
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="shop.pay")
def pay() -> None:
    user_journey.add_step("paid", {"card": "4111111111111111", "amount": 12.5})
    ship.delay()


@app.task(name="shop.ship")
def ship() -> None:
    user_journey.add_step("shipped")


def begin(request: HttpRequest) -> HttpResponse:
    request.session["basket"] = 1
    user_journey.start_journey("purchase", user_id=request.GET["user"], timeout_s=600)
    pay.delay()
    return HttpResponse(str(os.getpid()))


def wait(request: HttpRequest) -> HttpResponse:
    user_journey.add_step("asked", user_id=request.GET["user"])
    return HttpResponse(str(os.getpid()))


def end(request: HttpRequest) -> HttpResponse:
    assert request.session["basket"] == 1
    user_journey.complete_journey()
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("begin", begin), path("wait", wait), path("end", end)]
application = get_wsgi_application()
