"""The member, who is also the user."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class Member(AbstractUser):
    """A member of the studio."""

    class Plan(models.TextChoices):
        """What the member pays for."""

        FREE = "free"
        PRO = "pro"

    plan = models.CharField(max_length=8, choices=Plan.choices, default=Plan.FREE)
