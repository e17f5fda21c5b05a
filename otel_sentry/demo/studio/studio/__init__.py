"""Studio: a small design studio's site. Members sign up, post their work, and a worker renders it."""

from __future__ import annotations

from .celery import app as celery_app

__all__ = ("celery_app",)
