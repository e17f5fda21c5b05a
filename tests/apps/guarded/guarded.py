"""A Django application in one file, with logins, users, CSRF and REST framework. Knows nothing of telemetry.

gunicorn guarded:application
python guarded.py CODE          # CODE sees Client, User and Group
"""

# ruff: noqa: E402 - Django has to be set up first

from __future__ import annotations

import os
import sys
import time
from typing import Any

import django
from django.conf import settings

AUDIT = os.environ.get("GUARDED_AUDIT")
settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["127.0.0.1", "testserver"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "rest_framework"],
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("GUARDED_DATABASE", ":memory:")}
    },
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    AUTHENTICATION_BACKENDS=[f"{__name__}.Directory", "django.contrib.auth.backends.ModelBackend"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    LOGGING={
        "version": 1,
        "handlers": {"audit": {"class": "logging.FileHandler", "filename": AUDIT}},
        "loggers": {"otel_sentry.audit": {"handlers": ["audit"]}},
    }
    if AUDIT
    else {},
)


django.setup()

from django.contrib.auth import authenticate, get_user_model, login, logout, update_session_auth_hash
from django.contrib.auth.backends import BaseBackend
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView


class Directory(BaseBackend):
    """A backend that is away at times."""

    def authenticate(self, request: Any, username: str | None = None, password: str | None = None) -> None:
        if os.path.exists(os.environ.get("GUARDED_DOWN", "")):
            raise ConnectionError("the directory is down")


@csrf_exempt
def log_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.POST["username"], password=request.POST["password"])
    if user is None:
        time.sleep(float(os.environ.get("GUARDED_SLEEP", "0")))
        return HttpResponse(f"no, says {os.getpid()}", status=400)
    login(request, user)
    return HttpResponse("welcome")


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("bye")


def change(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    user.set_password("a-new-one")
    user.save()
    update_session_auth_hash(request, user)
    return HttpResponse("changed")


def reset(request: HttpRequest, pk: int) -> HttpResponse:
    user = get_user_model().objects.get(pk=pk)
    user.set_password("a-new-one")
    user.save()
    return HttpResponse("reset")


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def denied(request: HttpRequest) -> HttpResponse:
    str(request.user)
    raise PermissionDenied


def odd(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation("a secret detail")


class Keys(TokenAuthentication):
    def authenticate_credentials(self, key: str) -> Any:
        raise AuthenticationFailed(f"no such token {key}")


class Orders(APIView):
    authentication_classes = (Keys, SessionAuthentication)
    permission_classes = (IsAuthenticated,)

    def get(self, request: Any) -> Response:
        return Response({})

    post = get


urlpatterns = [
    path("", hello),
    path("login/", log_in),
    path("logout/", log_out),
    path("change/", change),
    path("reset/<int:pk>/", reset),
    path("denied/", denied),
    path("odd/", odd),
    path("orders/", Orders.as_view()),
]
application = get_wsgi_application()

if __name__ == "__main__":
    from django.contrib.auth.models import Group
    from django.test import Client

    call_command("migrate", verbosity=0)
    exec(sys.argv[1], {"Client": Client, "User": get_user_model(), "Group": Group})
