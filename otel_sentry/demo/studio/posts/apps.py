"""The app's configuration."""

from __future__ import annotations

from django.apps import AppConfig


class PostsConfig(AppConfig):
    """What the members make."""

    name = "posts"
