"""Addresses under /posts/."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("", views.create_post),
    path("<int:post_id>/", views.show_post),
    path("<int:post_id>/like/", views.like_post),
    path("<int:post_id>/export/", views.export),
    path("<int:post_id>/broken/", views.broken),
]
