"""Creates posts. Nothing here speaks of breadcrumbs, users or requests."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.views import APIView

from otel_sentry import tag_business_operation
from post.models import Post


class UploadFailed(OSError):
    pass


class SignedIn(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        user = getattr(request._request, "user", None)
        return (user, None) if user is not None else None


class PostSerializer(ModelSerializer):
    class Meta:
        model = Post
        fields = ("title", "file_type")


class Posts(APIView):
    authentication_classes = (SignedIn,)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Any) -> Response:
        with tag_business_operation("post_creation", file_type="video", event_id="456"):
            serializer = PostSerializer(data=request.data)
            serializer.is_valid(raise_exception=True)
            serializer.save()
            raise UploadFailed("the file store took only half of the file")
