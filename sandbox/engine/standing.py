"""What a subscription's status follows from: the fate of its latest invoice."""

from .. import Doc
from ..ids import new_id
from ..times import HOUR
from ..world import World, clock_of
from . import invoices, pending

INCOMPLETE_LIVES_S = 23 * HOUR


def subscription_of(world: World, invoice: Doc) -> Doc | None:
    return world.tx.find(invoice["_subscription"]) if invoice["_subscription"] else None


def is_latest_finalized(world: World, subscription: Doc, invoice: Doc) -> bool:
    """Whether no newer invoice of the subscription was finalized (voided ones don't count)."""
    finalized = [
        doc
        for doc in world.tx.select("invoice", subscription=subscription["id"])
        if doc["status"] in {"open", "paid", "uncollectible"}
    ]
    return not finalized or finalized[-1]["id"] == invoice["id"]


def after_payment(world: World, invoice: Doc) -> None:
    """An invoice was paid: the subscription starts, recovers or resumes if this was its latest."""
    subscription = subscription_of(world, invoice)
    _update_delinquency(world, invoice)
    if subscription is None or pending.apply_if_paid(world, subscription, invoice):
        return
    if not is_latest_finalized(world, subscription, invoice):
        return
    if subscription["status"] in {"incomplete", "past_due"}:
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"
    elif subscription["status"] == "paused" and subscription.get("_resumption_invoice") == invoice["id"]:
        resume_now(world, subscription)


def resume_now(world: World, subscription: Doc) -> None:
    """Paused becomes active."""
    with world.changing(subscription, "customer.subscription.updated"):
        subscription |= {"status": "active", "status_details": None, "_resumption_invoice": None}
    world.emit("customer.subscription.resumed", subscription)


def after_failure(world: World, invoice: Doc) -> None:
    """An attempt failed (or none was made in time): an active subscription is past due."""
    subscription = subscription_of(world, invoice)
    _update_delinquency(world, invoice)
    if subscription is None or invoice["billing_reason"] == "subscription_create":
        return
    if subscription["status"] == "active" and is_latest_finalized(world, subscription, invoice):
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "past_due"


def after_uncollectible(world: World, invoice: Doc) -> None:
    """Giving up the latest invoice clears a past due subscription, as paying it would."""
    subscription = subscription_of(world, invoice)
    if subscription is None or subscription["status"] != "past_due":
        return
    if is_latest_finalized(world, subscription, invoice):
        with world.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "active"


def _update_delinquency(world: World, invoice: Doc) -> None:
    customer = world.tx.get("customer", invoice["customer"])
    if customer.get("deleted"):
        return
    owing = any(
        doc["status"] == "open" and doc["attempted"] and doc["_subscription"]
        for doc in world.tx.select("invoice", customer=customer["id"])
    )
    with world.changing(customer, "customer.updated"):
        customer["delinquent"] = owing


def end(world: World, subscription: Doc, *, reason: str | None, comment: Doc | None = None) -> None:
    """Cancel for good: drafts and open invoices stop advancing, but stay payable."""
    now = world.now_of(subscription)
    was_incomplete = subscription["status"] == "incomplete"
    details = subscription["cancellation_details"] | (comment or {})
    subscription |= {
        "status": "canceled",
        "canceled_at": subscription["canceled_at"] or now,
        "ended_at": now,
        "cancellation_details": details | {"reason": reason},
        "pause_collection": None,
        "pending_update": None,
        "_pending": None,
        "pending_setup_intent": None,
        "status_details": None,
    }
    for invoice in world.tx.select("invoice", subscription=subscription["id"]):
        if invoice["status"] == "open" and was_incomplete:
            invoices.void(world, invoice)
        elif invoice["status"] in {"draft", "open"} and invoice["auto_advance"]:
            with world.changing(invoice, "invoice.updated"):
                invoice |= {
                    "auto_advance": False,
                    "automatically_finalizes_at": None,
                    "next_payment_attempt": None,
                }
    world.emit("customer.subscription.deleted", subscription)


def expire_incomplete(world: World, subscription: Doc) -> None:
    """The first payment did not come within 23 hours."""
    if subscription["status"] != "incomplete":
        return
    for invoice in world.tx.select("invoice", subscription=subscription["id"]):
        if invoice["status"] == "open":
            invoices.void(world, invoice)
    with world.changing(subscription, "customer.subscription.updated"):
        subscription |= {"status": "incomplete_expired", "ended_at": world.now_of(subscription)}


def new_setup_intent(world: World, customer: Doc, **extra: object) -> Doc:
    """A setup intent that waits for a payment method."""
    intent_id = new_id("setup_intent")
    empty = (
        "application attach_to_self cancellation_reason customer_account description "
        "excluded_payment_method_types "
        "flow_directions last_setup_error latest_attempt mandate next_action on_behalf_of payment_method "
        "payment_method_configuration_details single_use_mandate"
    )
    intent = dict.fromkeys(empty.split()) | {
        "id": intent_id,
        "object": "setup_intent",
        "automatic_payment_methods": None,
        "client_secret": f"{intent_id}_secret_{new_id('setup_intent')[5:]}",
        "created": world.now_of(customer),
        "customer": customer["id"],
        "livemode": False,
        "metadata": {},
        "payment_method_options": {
            "card": {"mandate_options": None, "network": None, "request_three_d_secure": "automatic"}
        },
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        "usage": "off_session",
        "_clock": clock_of(customer),
    }
    intent |= extra
    world.tx.add(intent)
    world.emit("setup_intent.created", intent)
    return intent
