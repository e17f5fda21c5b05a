"""Sign up, log in and upgrade."""

from __future__ import annotations

from django.contrib.auth import authenticate, login
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from otel_sentry import alert_manager, tag_business_operation

from . import billing, onboarding
from .models import Member


@csrf_exempt
@require_POST
@tag_business_operation("registration", module="accounts")
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
    onboarding.begin(member)
    return JsonResponse({"id": member.pk}, status=201)


@csrf_exempt
@require_POST
def log_in(request: HttpRequest) -> JsonResponse:
    """Log a member in."""
    member = authenticate(request, username=request.POST.get("username"), password=request.POST.get("password"))
    if member is None:
        return JsonResponse({"error": "wrong name or password"}, status=403)
    login(request, member)
    return JsonResponse({"id": member.pk})


@csrf_exempt
@require_POST
def upgrade(request: HttpRequest) -> JsonResponse:
    """Sell a member the plan "pro"."""
    if not request.user.is_authenticated:
        return JsonResponse({"error": "log in first"}, status=403)
    try:
        billing.charge(request.POST.get("card_token", ""), billing.PRO_PRICE)
    except billing.PaymentFailed as exc:
        alert_manager.trigger_business_alert(
            alert_type="payment_failed",
            severity="critical",
            message=str(exc),
            context={"plan": Member.Plan.PRO.value, "cents": billing.PRO_PRICE},
        )
        return JsonResponse({"error": "the card was refused"}, status=402)
    request.user.plan = Member.Plan.PRO
    request.user.save(update_fields=["plan"])
    onboarding.reached("upgraded", request.user)
    return JsonResponse({"plan": request.user.plan})
