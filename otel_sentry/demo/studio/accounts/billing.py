"""What the card provider does for the studio."""

from __future__ import annotations

from otel_sentry import tag_business_operation

#: In cents, a month.
PRO_PRICE = 900


class PaymentFailed(Exception):
    """The card was not charged."""


@tag_business_operation("payment", module="accounts")
def charge(card_token: str, cents: int) -> None:
    """Charge a card. This provider knows test cards only.

    Raises:
        PaymentFailed: it refused.

    """
    if card_token != "tok_visa":
        raise PaymentFailed("the card provider refused the charge")
