from __future__ import annotations

from django.db import models


class Post(models.Model):
    title = models.CharField(max_length=100)
    file_type = models.CharField(max_length=20)
