"""Addresses under /accounts/."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("signup/", views.signup),
    path("login/", views.log_in),
    path("upgrade/", views.upgrade),
]
