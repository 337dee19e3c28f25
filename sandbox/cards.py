"""Stripe's test cards: what each does when it is attached, charged, or asked for 3-D Secure."""

from dataclasses import dataclass
from typing import Final

from .errors import ApiError
from .ids import random_token

NEVER: Final = "never"
ALWAYS: Final = "always"
UNLESS_SET_UP: Final = "unless_set_up"
ON_SESSION: Final = "on_session"


@dataclass(frozen=True)
class Card:
    """One test card.

    `attach` and `charge` are decline codes (None: succeeds); `authentication` says when 3-D Secure
    is asked for.
    """

    brand: str
    last4: str
    attach: str | None = None
    charge: str | None = None
    authentication: str = NEVER
    funding: str = "credit"
    dispute: bool = False


def _declined(last4: str, code: str) -> Card:
    return Card("visa", last4, attach=code, charge=code)


CARDS: dict[str, Card] = {
    "visa": Card("visa", "4242"),
    "visa_debit": Card("visa", "5556", funding="debit"),
    "mastercard": Card("mastercard", "4444"),
    "mastercard_debit": Card("mastercard", "3222", funding="debit"),
    "mastercard_prepaid": Card("mastercard", "5100", funding="prepaid"),
    "amex": Card("amex", "8431"),
    "discover": Card("discover", "9424"),
    "diners": Card("diners", "0004"),
    "jcb": Card("jcb", "0505"),
    "unionpay": Card("unionpay", "0005"),
    "us": Card("visa", "4242"),
    "visa_chargeDeclined": _declined("0002", "generic_decline"),
    "visa_chargeDeclinedInsufficientFunds": _declined("9995", "insufficient_funds"),
    "visa_chargeDeclinedLostCard": _declined("9987", "lost_card"),
    "visa_chargeDeclinedStolenCard": _declined("9979", "stolen_card"),
    "visa_chargeDeclinedVelocityLimitExceeded": _declined("6975", "card_velocity_exceeded"),
    "chargeDeclinedExpiredCard": _declined("0069", "expired_card"),
    "chargeDeclinedIncorrectCvc": _declined("0127", "incorrect_cvc"),
    "chargeDeclinedProcessingError": _declined("0119", "processing_error"),
    "chargeCustomerFail": Card("visa", "0341", charge="generic_decline"),
    "radarBlock": _declined("0019", "highest_risk_level"),
    "authenticationRequired": Card("visa", "3184", authentication=ALWAYS),
    "authenticationRequiredOnSetup": Card("visa", "3155", authentication=UNLESS_SET_UP),
    "authenticationRequiredSetupForOffSession": Card("visa", "0446", authentication=ON_SESSION),
    "authenticationRequiredChargeDeclinedInsufficientFunds": Card(
        "visa", "8341", charge="insufficient_funds", authentication=ALWAYS
    ),
    "createDispute": Card("visa", "0259", dispute=True),
}
_ALIASES = {
    "chargeDeclined": "visa_chargeDeclined",
    "chargeDeclinedInsufficientFunds": "visa_chargeDeclinedInsufficientFunds",
    "chargeDeclinedLostCard": "visa_chargeDeclinedLostCard",
    "chargeDeclinedStolenCard": "visa_chargeDeclinedStolenCard",
}

# Codes that are an error code of their own; every other decline has the code `card_declined`.
_OWN_CODE = frozenset(
    {"expired_card", "incorrect_cvc", "processing_error", "incorrect_number", "authentication_required"}
)
_MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "incorrect_number": "Your card number is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
    "card_velocity_exceeded": "Your card was declined for making repeated attempts "
    "too frequently or exceeding "
    "its amount limit.",
}
_CONFIRM = frozenset({"expired_card", "incorrect_cvc", "incorrect_number", "invalid_account"})
_NEVER_AGAIN = frozenset(
    {
        "lost_card",
        "stolen_card",
        "pickup_card",
        "restricted_card",
        "revocation_of_authorization",
        "revocation_of_all_authorizations",
        "do_not_try_again",
        "fraudulent",
        "stop_payment_order",
        "transaction_not_allowed",
        "highest_risk_level",
    }
)


def card_named(test_id: str) -> Card | None:
    """The card behind a test id such as `pm_card_visa` or `tok_visa`; None for any other text."""
    for prefix in ("pm_card_", "tok_"):
        if test_id.startswith(prefix):
            name = test_id.removeprefix(prefix)
            return CARDS.get(_ALIASES.get(name, name))
    return None


def advice(decline_code: str) -> str:
    """Stripe's `advice_code` for a decline."""
    if decline_code in _NEVER_AGAIN:
        return "do_not_try_again"
    return "confirm_card_data" if decline_code in _CONFIRM else "try_again_later"


def error_code(decline_code: str) -> str:
    """The error `code` of a decline: its own for a few, else `card_declined`."""
    return decline_code if decline_code in _OWN_CODE else "card_declined"


def message(decline_code: str) -> str:
    return _MESSAGES.get(decline_code, "Your card was declined.")


def card_error(decline_code: str, **extra: object) -> ApiError:
    """The 402 of a decline; what was done before it stays done."""
    return ApiError(
        402,
        "card_error",
        message(decline_code),
        code=error_code(decline_code),
        extra={"decline_code": decline_code, "advice_code": advice(decline_code), **extra},
        keeps_effects=True,
    )


def network_reference() -> str:
    """A fresh card fingerprint."""
    return random_token(16)
