"""Posts with an upload that fails: a form, a database, a login. Of telemetry it says only what the guide does."""

from __future__ import annotations

from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, JsonResponse

from otel_sentry import tag_business_operation


class UploadFailed(Exception):
    """The file did not arrive at its place."""


class PostForm(forms.Form):
    title = forms.CharField(max_length=80)
    kind = forms.ChoiceField(choices=[("video", "Video"), ("image", "Image")])


@login_required
def create(request: HttpRequest) -> JsonResponse:
    form = PostForm(request.POST)
    if not form.is_valid():
        if request.POST.get("strict"):
            raise ValueError("not a post")
        return JsonResponse(form.errors, status=400)
    Group.objects.create(name=form.cleaned_data["title"])
    store(request.FILES.get("upload"))
    return JsonResponse({}, status=201)


def store(upload: UploadedFile | None) -> None:
    raise UploadFailed("the disk is full")


create_as_operation = tag_business_operation("post_creation", module="post", file_type="video", event_id="456")(create)
