"""The worker's part."""

from __future__ import annotations

import hashlib
import logging

from accounts import onboarding
from celery import shared_task
from django.core.cache import cache

from otel_sentry import tag_business_operation

from .models import Post, Rendition

logger = logging.getLogger(__name__)

WIDTHS = (320, 640, 1280)


class ExportFailed(Exception):
    """The post can't be exported."""


@shared_task
def render_post(post_id: int, *, is_first: bool = False) -> int:
    """Render a post (its author's first?) at every width; how many renditions it has then."""
    with tag_business_operation("render_post", module="posts", post_id=post_id):
        post = Post.objects.select_related("author").get(pk=post_id)
        content = post.upload.read() if post.upload else post.body.encode()
        Rendition.objects.bulk_create(
            (Rendition(post=post, width=width, checksum=_render(content, width)) for width in WIDTHS),
            ignore_conflicts=True,
        )
        post.status = Post.Status.RENDERED
        post.save(update_fields=["status"])
        cache.delete(post.cache_key)
        cache.set("posts:last-rendered", post_id)
    if is_first:
        onboarding.done()
    logger.info("post %s is rendered", post_id)
    return len(WIDTHS)


def _render(content: bytes, width: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", content or b"-", str(width).encode(), 20_000).hex()


@shared_task
def export_post(post_id: int) -> None:
    """Export a post to print. There is no printer yet."""
    post = Post.objects.get(pk=post_id)
    raise ExportFailed(f"no print profile for a post of kind {post.kind!r}")
