"""Payment methods: made from test cards, attached to customers, chosen for a payment."""

from .. import Doc
from ..cards import CARDS, Card, card_error, card_named, network_reference
from ..errors import invalid, missing
from ..ids import new_id
from ..world import World, clock_of


def new_method(world: World, card_name: str, *, clock: str | None = None, created: int) -> Doc:
    """A fresh, unattached payment method for one of the test cards."""
    card = CARDS[card_name]
    method: Doc = {
        "id": new_id("payment_method"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {
            "address": dict.fromkeys(_ADDRESS),
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        "card": _card_details(card),
        "created": created,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
        "_card": card_name,
        "_clock": clock,
        "_decline": None,
        "_set_up": False,
    }
    return world.tx.add(method)


_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def _card_details(card: Card) -> Doc:
    return {
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 2035,
        "fingerprint": network_reference(),
        "funding": card.funding,
        "generated_from": None,
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def card_name_of(test_id: str) -> str | None:
    """The name in the card table for `pm_card_...` or `tok_...`."""
    card = card_named(test_id)
    return next((name for name, entry in CARDS.items() if entry is card), None) if card else None


def method_for(world: World, method_id: str, customer: Doc, *, param: str = "payment_method") -> Doc:
    """The payment method that a request names; a test id such as `pm_card_visa` makes a fresh one.

    Raises: ApiError 400 when there is none, or it belongs to another customer.
    """
    if (name := card_name_of(method_id)) is not None:
        return new_method(world, name, clock=clock_of(customer), created=world.now_of(customer))
    method = world.tx.get("payment_method", method_id, param=param)
    if method["customer"] not in {None, customer["id"]}:
        raise missing("PaymentMethod", method_id, param=param, status=400)
    return method


def attach(world: World, method: Doc, customer: Doc) -> None:
    """Attach to a customer; cards that decline are refused by the bank already here, as at Stripe.

    Raises: ApiError 402 with the decline, 400 when it is another customer's or was detached.
    """
    if method["customer"] == customer["id"]:
        return
    if method["customer"] is not None:
        raise invalid(
            "The payment method you provided has already been attached to a customer.", param="payment_method"
        )
    if method.get("_detached"):
        raise invalid(
            "This PaymentMethod was previously used without being attached to a Customer or "
            "was detached from a "
            "Customer, and may not be used again.",
            param="payment_method",
        )
    if decline := CARDS[method["_card"]].attach:
        refusal = card_error(decline)
        refusal.keeps_effects = False
        raise refusal
    method["customer"] = customer["id"]
    method["_clock"] = clock_of(customer)
    world.emit("payment_method.attached", method)


def detach(world: World, method: Doc) -> None:
    """Detach for good; whoever had it as default has none then."""
    customer_id = method["customer"]
    if customer_id is None:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible."
        )
    method["customer"] = None
    method["_detached"] = True
    world.emit("payment_method.detached", method, {"customer": customer_id})
    customer = world.tx.get("customer", customer_id)
    if customer["invoice_settings"]["default_payment_method"] == method["id"]:
        with world.changing(customer, "customer.updated"):
            customer["invoice_settings"]["default_payment_method"] = None
    for subscription in world.tx.select("subscription", customer=customer_id):
        if subscription["default_payment_method"] == method["id"]:
            with world.changing(subscription, "customer.subscription.updated"):
                subscription["default_payment_method"] = None


def attached_method(world: World, method_id: str, customer: Doc, *, param: str) -> str:
    """The id of a method usable as a default: attached already, or made and attached from a test id."""
    method = method_for(world, method_id, customer, param=param)
    if method["customer"] is None:
        if card_name_of(method_id) is None:
            raise invalid(
                f"The customer does not have a payment method with the ID {method_id}. The "
                f"payment method must be "
                f"attached to the customer.",
                param=param,
                code="resource_missing",
            )
        attach(world, method, customer)
    return str(method["id"])


def default_for(
    world: World, customer: Doc, subscription: Doc | None, invoice: Doc | None = None
) -> Doc | None:
    """The method that a payment uses: the invoice's, the subscription's, then the customer's default."""
    candidates = [
        (invoice or {}).get("default_payment_method"),
        (subscription or {}).get("default_payment_method"),
        customer["invoice_settings"]["default_payment_method"],
    ]
    chosen = next((method_id for method_id in candidates if method_id), None)
    return world.tx.find(chosen) if chosen else None
