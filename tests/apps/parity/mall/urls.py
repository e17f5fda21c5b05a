from __future__ import annotations

from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from mall import views

urlpatterns = [
    path("enter/<str:name>/", views.enter),
    path("look/", views.look),
    path("form/", csrf_exempt(views.form)),
    path("order/", csrf_exempt(views.order)),
    path("chain/", views.chain),
    path("buy/", views.buy),
    path("logged/", views.logged),
    path("captured/", views.captured),
    path("look-async/", views.look_async),
    path("api/orders/<str:what>/", views.Orders.as_view()),
    path("page/", views.page),
    path("publish/<str:name>/", views.publish),
    path("pack/<int:number>/", views.pack),
    path("talk/<str:name>/", views.talk),
    path("talk-async/<str:name>/", views.talk_async),
]
