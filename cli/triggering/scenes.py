"""One scene for each event: what has to happen at the local Stripe so that it says so by itself.

A scene plays with an organization of ours: what we do goes through our use cases, what a person does in
Stripe's dashboard or a customer in a browser goes to Stripe past us.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billing.errors import Conflict
from gateway import requests
from gateway.errors import Declined
from models import billing_queries, catalog_queries
from models.base import new_id
from tasks import organizations, payment_methods, subscriptions
from tasks.context import Context
from tasks.organizations import OrganizationTerms
from tasks.subscriptions import SubscriptionTerms


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a scene is played: an organization and its customer at Stripe."""

    context: Context
    organization_id: UUID
    customer_id: str

    def subscribe(self, *, card: str | None = "pm_card_visa", trial_days: int = 0) -> dict[str, Any]:
        """A subscription of ours. Returns Stripe's, with its latest invoice and that one's payments."""
        if card is not None:
            payment_methods.attach(self.context, self.organization_id, card, new_id())
        terms = SubscriptionTerms(plan=self._plan(), currency=self._currency(), trial_days=trial_days)
        made = subscriptions.create(self.context, self.organization_id, terms)
        return self.context.gateway.fetch(
            "subscription",
            str(made.subscription.stripe_subscription_id),
            ["latest_invoice", "latest_invoice.payments"],
        )

    def person(self, request: requests.Request) -> dict[str, Any]:
        """A person asks Stripe for something past us."""
        return self.context.gateway.send(request, f"trigger:{new_id()}").object

    def open_invoice(self) -> str:
        """A finalized invoice that nobody has paid: the first one of a customer without a card."""
        return str(self.subscribe(card=None)["latest_invoice"]["id"])

    def draft(self) -> str:
        request = requests.create_invoice(self.customer_id, self._currency(), metadata={})
        return str(self.person(request)["id"])

    def paid_intent(self, card: str | None = None) -> str:
        """A payment that came in: one that is there, or, and always with a card, one that is made."""
        if card is None:
            charges = self.context.gateway.list("charge", {"customer": self.customer_id})
            there = (each for each in charges if each["status"] == "succeeded" and not each["refunded"])
            if (found := next(there, None)) is not None:
                return str(found["payment_intent"])
        invoice = self.subscribe(card=card or "pm_card_visa")["latest_invoice"]
        return str(invoice["payments"]["data"][0]["payment"]["payment_intent"])

    def credit_note(self) -> dict[str, Any]:
        return self.person(requests.create_credit_note(self.open_invoice(), amount_minor=1_00))

    def _plan(self) -> str:
        """A plan of a product that the organization does not have: each is subscribed to once."""
        currency = self._currency()
        with self.context.tenant(self.organization_id) as unit:
            held = billing_queries.held_products(unit.session, self.organization_id)
            for product in catalog_queries.public_products(unit.session):
                for each in catalog_queries.public_plans(unit.session, product.code):
                    sold = any(
                        (price.currency, price.interval) == (currency, "month") for price in each.prices
                    )
                    if product.id not in held and sold:
                        return each.plan.code
        raise Conflict("the organization has every product; leave --organization out for a new one")

    def _currency(self) -> str:
        with self.context.tenant(self.organization_id) as unit:
            return unit.organization.currency


def _update_subscription(stage: Stage, **changes: Any) -> None:
    made = stage.subscribe()
    stage.person(requests.update_subscription(made["id"], **changes))


def _fail_payment(stage: Stage) -> None:
    invoice = stage.open_invoice()
    payment_methods.attach(stage.context, stage.organization_id, "pm_card_chargeCustomerFail", new_id())
    _decline(stage, invoice)


def _require_action(stage: Stage) -> None:
    invoice = stage.open_invoice()
    payment_methods.attach(stage.context, stage.organization_id, "pm_card_authenticationRequired", new_id())
    _decline(stage, invoice)


def _decline(stage: Stage, invoice_id: str) -> None:
    try:
        stage.person(requests.pay_invoice(invoice_id))
    except Declined:
        return


def _delete_draft(stage: Stage) -> None:
    stage.person(requests.delete_invoice(stage.draft()))


def _detach(stage: Stage) -> None:
    card = payment_methods.attach(stage.context, stage.organization_id, "pm_card_visa", new_id())
    stage.person(requests.detach_payment_method(card.stripe_payment_method_id))


def _save_card(stage: Stage) -> None:
    intent = payment_methods.setup_intent(stage.context, stage.organization_id)
    stage.person(requests.confirm_setup_intent(intent.id, "pm_card_visa"))


def _resume(stage: Stage) -> None:
    made = stage.subscribe()
    stage.person(requests.pause_subscription(made["id"]))
    stage.person(requests.resume_subscription(made["id"]))


def _pause(stage: Stage) -> None:
    stage.person(requests.pause_subscription(stage.subscribe()["id"]))


def _cancel(stage: Stage) -> None:
    stage.person(requests.cancel_subscription(stage.subscribe()["id"], "by a person"))


def _refund(stage: Stage) -> None:
    stage.person(requests.create_refund(stage.paid_intent()))


def _lose_dispute(stage: Stage) -> None:
    intent = stage.paid_intent("pm_card_createDispute")
    (dispute,) = stage.context.gateway.list("dispute", {"payment_intent": intent})
    stage.person(requests.close_dispute(dispute["id"]))


def _void_note(stage: Stage) -> None:
    stage.person(requests.void_credit_note(stage.credit_note()["id"]))


SCENES: Mapping[str, Callable[[Stage], object]] = {
    "charge.dispute.closed": _lose_dispute,
    "charge.dispute.created": lambda stage: stage.paid_intent("pm_card_createDispute"),
    "charge.refunded": _refund,
    "credit_note.created": Stage.credit_note,
    "credit_note.voided": _void_note,
    "customer.deleted": lambda stage: stage.person(requests.delete_customer(stage.customer_id)),
    "customer.subscription.created": Stage.subscribe,
    "customer.subscription.deleted": _cancel,
    "customer.subscription.paused": _pause,
    "customer.subscription.resumed": _resume,
    "customer.subscription.trial_will_end": lambda stage: stage.subscribe(trial_days=2),
    "customer.subscription.updated": lambda stage: _update_subscription(stage, cancel_at_period_end=True),
    "customer.updated": lambda stage: stage.person(
        requests.update_customer(stage.customer_id, phone="+27 21 000 0000")
    ),
    "invoice.created": Stage.subscribe,
    "invoice.deleted": _delete_draft,
    "invoice.finalized": Stage.subscribe,
    "invoice.marked_uncollectible": lambda stage: stage.person(
        requests.mark_uncollectible(stage.open_invoice())
    ),
    "invoice.paid": Stage.subscribe,
    "invoice.payment_action_required": _require_action,
    "invoice.payment_failed": _fail_payment,
    "invoice.payment_succeeded": Stage.subscribe,
    "invoice.updated": Stage.credit_note,
    "invoice.voided": lambda stage: stage.person(requests.void_invoice(stage.open_invoice())),
    "payment_method.attached": lambda stage: payment_methods.attach(
        stage.context, stage.organization_id, "pm_card_visa", new_id()
    ),
    "payment_method.detached": _detach,
    "refund.created": _refund,
    "setup_intent.succeeded": _save_card,
}


def stage_of(context: Context, organization_id: UUID | None) -> Stage:
    """The stage of an organization that is there, or of a new one without a past."""
    if organization_id is None:
        name = f"trigger-{new_id().hex[-8:]}"
        terms = OrganizationTerms(
            slug=name,
            name=name,
            email=f"{name}@example.test",
            currency=context.settings.default_currency,
        )
        organization_id = organizations.create(context, terms).id
    customer_id = organizations.ensure_customer(context, organization_id)
    return Stage(context, organization_id, customer_id)
