"""What a new draft invoice looks like: Stripe's document before it has lines."""

from dataclasses import dataclass, field

from .. import Doc
from ..times import HOUR
from ..world import World, clock_of


@dataclass(frozen=True, kw_only=True)
class DraftTerms:
    """What a new draft is made of. `period` and `created` are Unix seconds on the customer's clock."""

    customer: Doc
    currency: str
    billing_reason: str
    period: tuple[int, int]
    subscription: Doc | None = None
    auto_advance: bool = True
    collection_method: str = "charge_automatically"
    days_until_due: int | None = None
    default_tax_rates: list[str] = field(default_factory=list)
    discounts: list[str] = field(default_factory=list)
    default_payment_method: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def shape_draft(world: World, terms: DraftTerms, invoice_id: str) -> Doc:
    """The document of a draft without lines, not stored yet."""
    customer, subscription = terms.customer, terms.subscription
    now = world.now_of(customer)
    invoice = dict.fromkeys(_NULL_AT_FIRST) | _figures_at_first() | _customer_part(customer)
    invoice |= {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Sandbox",
        "auto_advance": terms.auto_advance,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": now + HOUR if terms.auto_advance else None,
        "billing_reason": terms.billing_reason,
        "collection_method": terms.collection_method,
        "created": now,
        "currency": terms.currency,
        "default_payment_method": terms.default_payment_method,
        "description": terms.description,
        "discounts": list(terms.discounts),
        "issuer": {"account": None, "type": "self"},
        "livemode": False,
        "metadata": dict(terms.metadata),
        "parent": _parent(subscription),
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": terms.period[1],
        "period_start": terms.period[0],
        "status": "draft",
        "status_transitions": dict.fromkeys(
            ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")
        ),
        "test_clock": clock_of(customer),
        "_default_tax_rates": list(terms.default_tax_rates),
        "_days_until_due": terms.days_until_due,
        "_lines": [],
        "_payment_intent": None,
        "_subscription": subscription["id"] if subscription else None,
    }
    return invoice


_NULL_AT_FIRST = [
    "account_tax_ids",
    "amount_paid_off_stripe",
    "application",
    "custom_fields",
    "customer_account",
    "default_source",
    "due_date",
    "effective_at",
    "ending_balance",
    "footer",
    "from_invoice",
    "hosted_invoice_url",
    "invoice_pdf",
    "last_finalization_error",
    "latest_revision",
    "next_payment_attempt",
    "number",
    "on_behalf_of",
    "receipt_number",
    "rendering",
    "shipping_cost",
    "shipping_details",
    "statement_descriptor",
    "status_details",
    "threshold_reason",
    "webhooks_delivered_at",
]


def _figures_at_first() -> Doc:
    figures: Doc = dict.fromkeys(_ZERO_AT_FIRST, 0)
    return figures | {
        "attempted": False,
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
    }


_ZERO_AT_FIRST = (
    "amount_due",
    "amount_overpaid",
    "amount_paid",
    "amount_remaining",
    "amount_shipping",
    "attempt_count",
    "post_payment_credit_notes_amount",
    "pre_payment_credit_notes_amount",
    "starting_balance",
    "subtotal",
    "subtotal_excluding_tax",
    "total",
    "total_excluding_tax",
)


def _customer_part(customer: Doc) -> Doc:
    return {
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
    }


def _parent(subscription: Doc | None) -> Doc | None:
    if subscription is None:
        return None
    return {
        "quote_details": None,
        "subscription_details": {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"],
        },
        "type": "subscription_details",
    }
