from django.urls import path
from post.views import Posts

from alpha import views

urlpatterns = [path("api/posts/", Posts.as_view()), path("samples/", views.sample)]
