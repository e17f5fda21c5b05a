"""The app's configuration."""

from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Members of the studio."""

    name = "accounts"
