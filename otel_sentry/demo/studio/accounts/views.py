"""Sign up and log in."""

from __future__ import annotations

from django.contrib.auth import authenticate, login
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from otel_sentry import tag_business_operation

from .models import Member


@csrf_exempt
@require_POST
@tag_business_operation("signup", module="accounts")
def signup(request: HttpRequest) -> JsonResponse:
    """Make a member and log him in."""
    username, password = request.POST.get("username", ""), request.POST.get("password", "")
    try:
        validate_password(password)
        with transaction.atomic():
            member = Member.objects.create_user(username, password=password)
    except (ValidationError, ValueError) as exc:
        return JsonResponse({"error": str(exc)}, status=400)
    except IntegrityError:
        return JsonResponse({"error": "that name is taken"}, status=409)
    login(request, member)
    return JsonResponse({"id": member.pk}, status=201)


@csrf_exempt
@require_POST
@tag_business_operation("login", module="accounts")
def log_in(request: HttpRequest) -> JsonResponse:
    """Log a member in."""
    member = authenticate(request, username=request.POST.get("username"), password=request.POST.get("password"))
    if member is None:
        return JsonResponse({"error": "wrong name or password"}, status=403)
    login(request, member)
    return JsonResponse({"id": member.pk})
