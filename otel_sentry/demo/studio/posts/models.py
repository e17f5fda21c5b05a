"""Posts, their renditions and their likes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models


class Post(models.Model):
    """One piece of work: an image, a video or a note."""

    class Kind(models.TextChoices):
        """What is posted."""

        IMAGE = "image"
        VIDEO = "video"
        NOTE = "note"

    class Status(models.TextChoices):
        """How far the worker is with it."""

        NEW = "new"
        RENDERED = "rendered"

    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="posts")
    title = models.CharField(max_length=200)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.NOTE)
    body = models.TextField(blank=True)
    upload = models.FileField(upload_to="uploads/", blank=True)
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    columns = models.PositiveSmallIntegerField(default=0)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.NEW)
    created = models.DateTimeField(auto_now_add=True)

    @property
    def cache_key(self) -> str:
        """Where the post's page is cached."""
        return f"post:{self.pk}"

    def as_dict(self) -> dict[str, Any]:
        """What the page shows."""
        return {
            "id": self.pk,
            "title": self.title,
            "kind": self.kind,
            "status": self.status,
            "size": [self.width, self.height],
            "renditions": [rendition.width for rendition in self.renditions.all()],
            "likes": self.likes.count(),
        }


class Rendition(models.Model):
    """A post, rendered at one width."""

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="renditions")
    width = models.PositiveIntegerField()
    checksum = models.CharField(max_length=64)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["post", "width"], name="one_rendition_per_width"),)


class Like(models.Model):
    """A member likes a post, once."""

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="likes")
    member = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="likes")

    class Meta:
        constraints = (models.UniqueConstraint(fields=["post", "member"], name="one_like_per_member"),)
