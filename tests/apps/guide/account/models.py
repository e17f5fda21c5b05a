from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser
from django.db import models


class User(AbstractBaseUser):
    USERNAME_FIELD = "username"

    username = models.CharField(max_length=50, unique=True)
    email = models.EmailField()
    user_type = models.CharField(max_length=20, default="customer")
