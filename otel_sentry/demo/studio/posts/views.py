"""Make, show, like and export posts."""

from __future__ import annotations

import functools
import json
from typing import Any

from accounts import onboarding
from django.core.cache import cache
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from otel_sentry import business_metrics, capture_custom_exception, tag_business_operation

from . import media, tasks
from .models import Like, Post


@csrf_exempt
@require_POST
@tag_business_operation("post_creation", module="posts")
def create_post(request: HttpRequest) -> JsonResponse | HttpResponseBadRequest:
    """Make a post from a form (with or without an upload) or from JSON, and have it rendered."""
    try:
        fields: dict[str, Any] = _fields(request)
    except ValueError:
        return HttpResponseBadRequest("expected a form or a JSON object")
    post = Post(
        author=request.user if request.user.is_authenticated else None,
        title=str(fields.get("title", ""))[:200] or "Untitled",
        kind=fields.get("kind", Post.Kind.NOTE),
        body=fields.get("body", ""),
    )
    upload = request.FILES.get("upload")
    if upload is not None:
        _attach(post, upload)
    is_first = post.author is not None and not post.author.posts.exists()
    with transaction.atomic():
        post.save()
        transaction.on_commit(functools.partial(_created, post, is_first))
    return JsonResponse({"id": post.pk}, status=201)


def _created(post: Post, is_first: bool) -> None:
    """The post is in the database: count it, and have it rendered."""
    business_metrics.track_feature_usage(
        feature_name="post_creator",
        usage_type=f"{post.kind}_created",
        user_id=post.author_id,
        usage_data={"file_size": post.upload.size if post.upload else 0},
    )
    if is_first:
        onboarding.reached("first_post", post.author)
    tasks.render_post.delay(post.pk, is_first=is_first)


def _fields(request: HttpRequest) -> dict[str, Any]:
    if request.content_type != "application/json":
        return request.POST.dict()  # type: ignore[no-any-return]
    fields = json.loads(request.body)
    if not isinstance(fields, dict):
        raise ValueError("not an object")
    return fields


def _attach(post: Post, upload: UploadedFile) -> None:
    """Keep the upload if the studio can show it; a post without it is better than none."""
    try:
        if post.kind == Post.Kind.VIDEO:
            media.check_video(upload)
        else:
            post.width, post.height = media.dimensions(upload)
    except media.UnsupportedMedia as exc:
        capture_custom_exception(
            exc,
            context={"operation": "post_creation", "content_type": upload.content_type, "size": upload.size},
            tags={"error_type": "upload"},
        )
    else:
        post.upload = upload


@require_GET
def show_post(request: HttpRequest, post_id: int) -> JsonResponse:
    """One post, from the cache if it is there."""
    key = Post(pk=post_id).cache_key
    shown = cache.get(key)
    if shown is None:
        shown = get_object_or_404(Post, pk=post_id).as_dict()
        cache.set(key, shown)
    return JsonResponse(shown)


@csrf_exempt
@require_POST
def like_post(request: HttpRequest, post_id: int) -> JsonResponse:
    """Like a post. Twice is no mistake: the database keeps one."""
    if not request.user.is_authenticated:
        return JsonResponse({"error": "log in first"}, status=403)
    post = get_object_or_404(Post, pk=post_id)
    try:
        with transaction.atomic():
            Like.objects.create(post=post, member=request.user)
    except IntegrityError:
        return JsonResponse({"liked": "before"})
    return JsonResponse({"liked": "now"}, status=201)


@csrf_exempt
@require_POST
def export(request: HttpRequest, post_id: int) -> JsonResponse:
    """Have a post exported to print."""
    tasks.export_post.delay(post_id)
    return JsonResponse({"export": "queued"}, status=202)


@require_GET
def broken(request: HttpRequest, post_id: int) -> JsonResponse:
    """A page with a bug in it: no post has columns."""
    post = get_object_or_404(Post, pk=post_id)
    return JsonResponse({"column_width": post.width / post.columns})
