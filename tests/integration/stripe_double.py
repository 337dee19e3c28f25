"""Stripe's side of books that agree: objects as Stripe would show them, over HTTP, for tests to falsify.

Not a Stripe: it reads, pages and filters by customer, and that is all. What Stripe does is the local
Stripe's to show; here a test says what Stripe has, which no use case of ours could bring about.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sqlalchemy.orm import Session

from models.invoices import Invoice, InvoiceLine, Payment
from models.organizations import Organization
from models.subscriptions import PaymentMethod, ProductSubscription, SubscriptionItem

Shape = dict[str, Any]


class StripeDouble:
    """What Stripe has: `objects[path]` are the objects of a collection; calls are counted by path."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, list[Shape]] = {
            path: []
            for path in (
                "customers",
                "subscriptions",
                "invoices",
                "invoice_payments",
                "payment_methods",
                "charges",
                "disputes",
            )
        }
        self.asked: list[str] = []

    def one(self, kind: str, **values: Any) -> Shape:
        """The one object of a kind that has these values."""
        (found,) = [
            each for each in self.objects[kind] if all(each[name] == value for name, value in values.items())
        ]
        return found

    def mirrors(self, session: Session) -> None:
        """Have everything that our rows say it has."""
        for owner in session.query(Organization).all():
            self._customer(session, owner)
            for subscription in session.query(ProductSubscription).filter_by(organization_id=owner.id):
                self._subscription(session, owner, subscription)
            for invoice in session.query(Invoice).filter_by(organization_id=owner.id):
                self._invoice(session, owner, invoice)

    def _customer(self, session: Session, owner: Organization) -> None:
        cards = session.query(PaymentMethod).filter_by(organization_id=owner.id).all()
        self.objects["customers"].append(
            {
                "id": owner.stripe_customer_id,
                "object": "customer",
                "email": owner.email,
                "balance": 0,
                "currency": owner.currency.lower(),
                "invoice_settings": {"default_payment_method": cards[0].stripe_payment_method_id},
                "metadata": {"organization_id": str(owner.id)},
            }
        )
        self.objects["payment_methods"] += [
            {
                "id": card.stripe_payment_method_id,
                "object": "payment_method",
                "customer": owner.stripe_customer_id,
                "type": "card",
                "card": {"brand": card.brand, "last4": card.last_four, "exp_month": None, "exp_year": None},
            }
            for card in cards
        ]

    def _subscription(self, session: Session, owner: Organization, row: ProductSubscription) -> None:
        items = session.query(SubscriptionItem).filter_by(subscription_id=row.id)
        period = {
            "current_period_start": _seconds(row.current_period_start_at),
            "current_period_end": _seconds(row.current_period_end_at),
        }
        self.objects["subscriptions"].append(
            {
                "id": row.stripe_subscription_id,
                "object": "subscription",
                "customer": owner.stripe_customer_id,
                "status": row.status,
                "items": {
                    "has_more": False,
                    "data": [
                        {
                            "id": item.stripe_item_id,
                            "price": {"id": "price_flow"},
                            "quantity": item.quantity,
                            **period,
                        }
                        for item in items
                    ],
                },
                "cancel_at_period_end": False,
                "billing_cycle_anchor": _seconds(row.anchor_at),
                "metadata": {"subscription_id": str(row.id)},
            }
        )

    def _invoice(self, session: Session, owner: Organization, row: Invoice) -> None:
        lines = session.query(InvoiceLine).filter_by(invoice_id=row.id).order_by(InvoiceLine.position)
        payments = session.query(Payment).filter_by(invoice_id=row.id, status="succeeded")
        self.objects["invoices"].append(
            {
                "id": row.stripe_invoice_id,
                "object": "invoice",
                "customer": owner.stripe_customer_id,
                "status": row.status,
                "auto_advance": False,
                "currency": row.currency.lower(),
                "subtotal": row.subtotal_minor,
                "total": row.total_minor,
                "amount_due": row.total_minor,
                "amount_paid": row.paid_minor,
                "amount_remaining": row.total_minor - row.paid_minor,
                "period_start": _seconds(row.period_start_at),
                "period_end": _seconds(row.period_end_at),
                "created": _seconds(row.created_at),
                "metadata": {},
                "lines": {"has_more": False, "data": [_line(session, line) for line in lines]},
                "payments": {"has_more": False, "data": [_payment(row, payment) for payment in payments]},
            }
        )

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Shape]:
        """GET `path`: one object, or a collection's objects of a customer."""
        self.asked.append(path)
        kind, _, rest = path.removeprefix("/v1/").partition("/")
        if rest.endswith("/payment_methods"):
            kind, query, rest = "payment_methods", {"customer": rest.partition("/")[0]}, ""
        asked = {name: query[name] for name in ("customer", "payment_intent") if name in query}
        found = [
            each
            for each in self.objects[kind]
            if (each["id"] == rest if rest else all(each.get(name) == asked[name] for name in asked))
        ]
        if rest and not found:
            return 404, {
                "error": {"type": "invalid_request_error", "code": "resource_missing", "message": "none"}
            }
        return 200, found[0] if rest else {"object": "list", "has_more": False, "data": found}


def _line(session: Session, line: InvoiceLine) -> Shape:
    shape: Shape = {
        "id": f"il_{line.id.hex}",
        "object": "line_item",
        "amount": line.amount_minor,
        "description": line.description,
        "period": {"start": _seconds(line.period_start_at), "end": _seconds(line.period_end_at)},
        "metadata": {},
    }
    if line.kind == "recurring":
        item = session.get_one(SubscriptionItem, (line.organization_id, line.item_id))
        details = {"subscription_item": item.stripe_item_id, "proration": False}
        return shape | {"parent": {"type": "subscription_item_details", "subscription_item_details": details}}
    return shape | {"metadata": {"line_id": str(line.id)}}


def _payment(invoice: Invoice, payment: Payment) -> Shape:
    return {
        "id": f"inpay_{payment.id.hex}",
        "object": "invoice_payment",
        "invoice": invoice.stripe_invoice_id,
        "status": "paid",
        "amount_paid": payment.amount_minor,
        "amount_requested": payment.amount_minor,
        "currency": payment.currency.lower(),
        "payment": {"type": "payment_intent", "payment_intent": payment.stripe_payment_intent_id},
    }


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


@contextmanager
def stripe_double() -> Iterator[StripeDouble]:
    """A double on a free port, for the length of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    double = StripeDouble()
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.double = double  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The body would wait 40 ms for the client to acknowledge the head.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        double: StripeDouble = self.server.double  # type: ignore[attr-defined]
        status, shape = double.answer(address.path, query)
        body = json.dumps(shape).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
        """Say nothing: the test prints what matters."""
