"""How a visitor becomes a paying member: the journey of each, and the funnel of all."""

from __future__ import annotations

from otel_sentry import business_metrics, user_journey

from .models import Member

NAME = "user_onboarding"
#: Of the funnel, in their order.
STEPS = ("signed_up", "first_post", "upgraded")


def begin(member: Member) -> None:
    """A visitor has become a member."""
    user_journey.start_journey(NAME, user_id=member.pk)
    reached("signed_up", member)


def reached(step: str, member: Member) -> None:
    """The member got as far as *step*."""
    user_journey.add_step(step, {"plan": member.plan})
    business_metrics.track_conversion_funnel(NAME, step, user_id=member.pk)


def done() -> None:
    """The first post is out: the member has found the way."""
    user_journey.add_step("published")
    user_journey.complete_journey(success=True)
