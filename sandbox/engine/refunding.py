"""Giving money back: refunds of charges, and what they do to the charge."""

from dataclasses import dataclass, field

from .. import Doc
from ..errors import invalid
from ..ids import new_id
from ..world import World, clock_of


@dataclass(frozen=True, kw_only=True)
class RefundTerms:
    """What to give back: `amount` in minor units (None: all that is left)."""

    charge: Doc
    amount: int | None = None
    reason: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def refund(world: World, terms: RefundTerms) -> Doc:
    """Refund a charge at once.

    Raises: ApiError 400 when it did not succeed, is refunded already, or the amount is more than is left.
    """
    charge = terms.charge
    left = charge["amount_captured"] - charge["amount_refunded"]
    if not charge["paid"]:
        raise invalid("This charge has not succeeded and cannot be refunded.", param="charge")
    if left == 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = left if terms.amount is None else terms.amount
    if not 0 < amount <= left:
        raise invalid(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).", param="amount"
        )
    given_back = world.tx.add(_document(world, terms, amount))
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    world.emit("refund.created", given_back)
    world.emit("charge.refunded", charge)
    return given_back


def _document(world: World, terms: RefundTerms, amount: int) -> Doc:
    charge = terms.charge
    empty = (
        "balance_transaction customer_account description failure_balance_transaction failure_reason "
        "instructions_email next_action pending_reason receipt_number "
        "source_transfer_reversal transfer_reversal"
    )
    return dict.fromkeys(empty.split()) | {
        "id": new_id("refund"),
        "object": "refund",
        "amount": amount,
        "charge": charge["id"],
        "created": world.now_of(charge),
        "currency": charge["currency"],
        "customer": charge["customer"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": dict(terms.metadata),
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "reason": terms.reason,
        "status": "succeeded",
        "_clock": clock_of(charge),
        "_parent": charge["id"],
    }


def charge_of_intent(world: World, intent_id: str) -> Doc:
    """The charge that paid an intent. Raises: ApiError 400 when it has none."""
    intent = world.tx.get("payment_intent", intent_id, param="payment_intent")
    if intent["status"] != "succeeded":
        raise invalid(f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.")
    return world.tx.get("charge", intent["latest_charge"])
