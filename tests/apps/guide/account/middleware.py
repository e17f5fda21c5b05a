"""Whoever names a user is that user."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from account.models import User


def token(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        if "HTTP_X_USER" in request.META:
            request.user = User.objects.get(pk=request.META["HTTP_X_USER"])
        return get_response(request)

    return middleware
