from django.urls import path

from small import views

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
]
