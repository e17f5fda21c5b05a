from django.conf import settings
from django.urls import include, path

from small import posts, views

urlpatterns = [
    path("", views.hello),
    path("items/<int:pk>/", views.item),
    path("boom/", views.boom),
    path("boom-async/", views.boom_async),
    path("missing/", views.missing),
    path("denied/", views.denied),
    path("bad/", views.bad),
    path("who/", views.who),
    path("who/boom/", views.who_boom),
    path("form/", views.form),
    path("json/", views.json_body),
    path("logged/", views.logged),
    path("query/", views.query),
    path("caught/", views.caught),
    path("slow/", views.slow),
    path("stream/", views.stream),
    path("stream-async/", views.stream_async),
    path("stream-boom/", views.stream_boom),
    path("stream-boom-async/", views.stream_boom_async),
    path("file/", views.file),
    path("wait/", views.wait),
    path("page/", views.page),
    path("meta/", views.meta),
    path("posts/", posts.create),
    path("api/posts/", posts.create_as_operation),
]
if "rest_framework" in settings.INSTALLED_APPS:
    urlpatterns.append(path("api/", include("small.api")))
