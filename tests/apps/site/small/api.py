"""The part of the site that speaks Django REST framework (`SMALL_APPS=rest_framework`)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.urls import path
from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.serializers import CharField, IntegerField, Serializer
from rest_framework.views import APIView


class Key(TokenAuthentication):
    """Tokens are user ids; looking one up is the only query."""

    def authenticate_credentials(self, key: str) -> tuple[Any, str]:
        return get_user_model().objects.get(pk=key), key


class Orders(APIView):
    authentication_classes = (Key,)
    permission_classes = ()

    def post(self, request: Any, what: str) -> Response:
        data = request.data
        if what == "boom":
            raise ValueError(f"{len(data)} fields")
        if what == "invalid":
            raise ValidationError({"title": "too short"})
        if what == "down":
            raise APIException("the warehouse is down")
        return Response({"fields": len(data)})


class Post(Serializer):  # type: ignore[type-arg]
    title = CharField(max_length=80)
    pages = IntegerField()


class Posts(APIView):
    authentication_classes = (Key,)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Any) -> Response:
        serializer = Post(data=request.data, many=isinstance(request.data, list))
        serializer.is_valid(raise_exception=bool(request.data.get("strict")))
        raise RuntimeError("no paper")


urlpatterns = [path("checked/", Posts.as_view()), path("orders/<str:what>/", Orders.as_view())]
