"""Addresses of the whole site."""

from __future__ import annotations

from django.urls import include, path

from . import views

urlpatterns = [
    path("accounts/", include("accounts.urls")),
    path("posts/", include("posts.urls")),
    path("reports/slow/", views.slow_report),
]
