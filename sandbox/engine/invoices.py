"""The life of an invoice: draft, open, paid, void, uncollectible; its number, balance and discounts."""

from .. import Doc
from ..errors import ApiError, invalid
from ..ids import new_id
from ..times import DAY
from ..world import World, clock_of
from . import payments
from .drafting import DraftTerms, shape_draft
from .totals import balance_after, recompute, set_due

MAX_LINES = 250
# Stripe's published minimum charges; currencies that are not listed here have none in the sandbox.
MINIMUM_CHARGE = {
    **dict.fromkeys(("aud", "brl", "cad", "chf", "eur", "inr", "jpy", "nzd", "sgd", "usd"), 50),
    "gbp": 30,
    "bgn": 100,
    "aed": 200,
    "myr": 200,
    "pln": 200,
    "ron": 200,
    "dkk": 250,
    "nok": 300,
    "sek": 300,
    "hkd": 400,
    "mxn": 1_000,
    "thb": 1_000,
    "czk": 1_500,
    "huf": 17_500,
}


def create_draft(world: World, terms: DraftTerms, lines: list[Doc], invoice_id: str | None = None) -> Doc:
    """Store a draft with its lines and figures; with `auto_advance` it finalizes itself in an hour."""
    invoice = shape_draft(world, terms, invoice_id or new_id("invoice"))
    for line in lines:
        line["invoice"] = invoice["id"]
    invoice["_lines"] = lines
    refresh(world, invoice)
    world.tx.add(invoice)
    event = world.emit("invoice.created", invoice)
    invoice["_created_event"] = event["id"]
    if invoice["auto_advance"]:
        world.tx.set_timer(
            invoice["automatically_finalizes_at"], clock_of(invoice), "finalize", invoice["id"]
        )
    return invoice


def refresh(world: World, invoice: Doc) -> None:
    """Bring a draft's figures up to date with its lines.

    Raises: ApiError 400 beyond 250 lines.
    """
    if len(invoice["_lines"]) > MAX_LINES:
        raise invalid(f"Invoices can have at most {MAX_LINES} line items.", param="lines")
    recompute(world.tx, invoice)
    customer = world.tx.get("customer", invoice["customer"])
    set_due(invoice, customer["balance"])


def require_draft(invoice: Doc, doing: str) -> None:
    if invoice["status"] != "draft":
        raise invalid(
            f"This invoice is no longer a draft, so it can't be {doing}. Invoices are "
            f"immutable once finalized.",
            code="invoice_not_editable",
        )


def finalize(world: World, invoice: Doc, *, auto_advance: bool | None = None) -> None:
    """Number a draft, freeze it, use the customer's balance, and open it; nothing due makes it paid at once.

    Raises: ApiError 400 when it is no draft.
    """
    require_draft(invoice, "finalized")
    customer = world.tx.get("customer", invoice["customer"])
    now = world.now_of(invoice)
    refresh(world, invoice)
    with world.changing(invoice, "invoice.updated"):
        if auto_advance is not None:
            invoice["auto_advance"] = auto_advance
        invoice |= _numbered(world, customer) | {
            "status": "open",
            "automatically_finalizes_at": None,
            "effective_at": now,
            "hosted_invoice_url": f"{world.base_url}/pay/{invoice['id']}",
            "invoice_pdf": f"{world.base_url}/pay/{invoice['id']}?print=1",
        }
        if invoice["collection_method"] == "send_invoice" and invoice["due_date"] is None:
            invoice["due_date"] = now + (invoice["_days_until_due"] or 0) * DAY
        invoice["status_transitions"]["finalized_at"] = now
        invoice["webhooks_delivered_at"] = now
        _use_balance(world, customer, invoice)
        if invoice["amount_due"] > 0:
            _ask_for_payment(world, customer, invoice)
    _use_up_discounts(world, invoice)
    world.emit("invoice.finalized", invoice)


def _numbered(world: World, customer: Doc) -> Doc:
    sequence = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] = sequence + 1
    return {"number": f"{customer['invoice_prefix']}-{sequence:04d}"}


def _use_balance(world: World, customer: Doc, invoice: Doc) -> None:
    before = customer["balance"]
    set_due(invoice, before)
    after = balance_after(invoice)
    due = invoice["amount_due"]
    if 0 < due < MINIMUM_CHARGE.get(invoice["currency"], 0):
        # Too small to charge: Stripe marks it paid and carries the amount over on the customer's balance.
        after, invoice["amount_due"], invoice["amount_remaining"] = due, 0, 0
    invoice["ending_balance"] = after
    if after != before:
        change_balance(
            world,
            customer,
            after - before,
            currency=invoice["currency"],
            kind="applied_to_invoice",
            invoice=invoice["id"],
        )


def change_balance(
    world: World, customer: Doc, amount: int, *, currency: str, kind: str, **links: str | None
) -> Doc:
    """Move a customer's balance (negative: credit) and write the transaction that explains it."""
    with world.changing(customer, "customer.updated"):
        customer["balance"] += amount
        customer["currency"] = customer["currency"] or currency
    return world.tx.add(
        {
            "id": new_id("customer_balance_transaction"),
            "object": "customer_balance_transaction",
            "amount": amount,
            "checkout_session": None,
            "created": world.now_of(customer),
            "credit_note": links.get("credit_note"),
            "currency": currency,
            "customer": customer["id"],
            "customer_account": None,
            "description": links.get("description"),
            "ending_balance": customer["balance"],
            "invoice": links.get("invoice"),
            "livemode": False,
            "metadata": {},
            "type": kind,
            "_clock": clock_of(customer),
        }
    )


def _ask_for_payment(world: World, customer: Doc, invoice: Doc) -> None:
    reason = (
        "Subscription creation" if invoice["billing_reason"] == "subscription_create" else "Invoice payment"
    )
    intent = payments.new_intent(
        world,
        customer=customer,
        amount=invoice["amount_due"],
        currency=invoice["currency"],
        description=reason,
    )
    intent["_invoice"] = invoice["id"]
    invoice["_payment_intent"] = intent["id"]
    world.tx.add(
        {
            "id": new_id("invoice_payment"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": world.now_of(invoice),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
            "_clock": clock_of(invoice),
            "_parent": intent["id"],
        }
    )


def _use_up_discounts(world: World, invoice: Doc) -> None:
    """A `once` coupon leaves its subscription with the first invoice that it lowered."""
    subscription = world.tx.find(invoice["_subscription"]) if invoice["_subscription"] else None
    if subscription is None:
        return
    for part in invoice["total_discount_amounts"]:
        discount = world.tx.get("discount", part["discount"])
        coupon = world.tx.get("coupon", discount["source"]["coupon"])
        if coupon["duration"] != "once" or part["amount"] == 0:
            continue
        for holder in [subscription, *world.tx.select("subscription_item", subscription=subscription["id"])]:
            if discount["id"] in holder["discounts"]:
                with world.changing(subscription, "customer.subscription.updated"):
                    holder["discounts"] = [key for key in holder["discounts"] if key != discount["id"]]


def close_payment(world: World, invoice: Doc, reason: str) -> None:
    """Cancel what still asks for money for an invoice that is over."""
    for payment in world.tx.select("invoice_payment", invoice=invoice["id"]):
        if payment["status"] == "open":
            payment["status"] = "canceled"
            payment["status_transitions"]["canceled_at"] = world.now_of(invoice)
    if invoice["_payment_intent"]:
        payments.cancel_intent(world, world.tx.get("payment_intent", invoice["_payment_intent"]), reason)


def void(world: World, invoice: Doc) -> None:
    """Take a finalized, unpaid invoice back, for good. Raises: ApiError 400 in any other status."""
    if invoice["status"] not in {"open", "uncollectible"}:
        raise wrong_status(invoice, "voided")
    with world.changing(invoice, "invoice.updated"):
        invoice |= {
            "status": "void",
            "auto_advance": False,
            "next_payment_attempt": None,
            "status_details": None,
        }
        invoice["status_transitions"]["voided_at"] = world.now_of(invoice)
        close_payment(world, invoice, "void_invoice")
    _give_back_balance(world, invoice)
    world.emit("invoice.voided", invoice)


def _give_back_balance(world: World, invoice: Doc) -> None:
    used = (invoice["ending_balance"] or 0) - invoice["starting_balance"]
    if used:
        customer = world.tx.get("customer", invoice["customer"])
        change_balance(
            world,
            customer,
            -used,
            currency=invoice["currency"],
            kind="unapplied_from_invoice",
            invoice=invoice["id"],
        )


def mark_uncollectible(world: World, invoice: Doc, reason: str = "user_forgiven") -> None:
    """Give an open invoice up; it can still be paid. Raises: ApiError 400 in any other status."""
    if invoice["status"] != "open":
        raise wrong_status(invoice, "marked uncollectible")
    with world.changing(invoice, "invoice.updated"):
        invoice |= {"status": "uncollectible", "auto_advance": False, "next_payment_attempt": None}
        invoice["status_details"] = {"uncollectible": {"reason": reason}}
        invoice["status_transitions"]["marked_uncollectible_at"] = world.now_of(invoice)
    world.emit("invoice.marked_uncollectible", invoice)


def wrong_status(invoice: Doc, doing: str) -> ApiError:
    return invalid(
        f"This invoice has the status `{invoice['status']}` and can't be {doing}.",
        code="status_transition_invalid",
    )
