"""Pages to look at: an overview, lists, one object, one customer."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, abort, render_template, request

from .. import Doc
from ..dispatch import Dispatcher
from ..render import public, render
from ..store import Tx

KINDS = {
    "customers": "customer",
    "subscriptions": "subscription",
    "invoices": "invoice",
    "payments": "payment_intent",
    "events": "event",
    "clocks": "test_helpers.test_clock",
    "products": "product",
    "prices": "price",
    "coupons": "coupon",
    "tax rates": "tax_rate",
    "refunds": "refund",
    "credit notes": "credit_note",
    "disputes": "dispute",
    "endpoints": "webhook_endpoint",
}
_PER_PAGE = 50
_ON_OVERVIEW = ("clocks", "customers", "subscriptions", "invoices", "events")


def money(amount: int | None, currency: str | None) -> str:
    """`1,234.50 USD` from minor units."""
    if amount is None:
        return ""
    whole, rest = divmod(abs(amount), 100)
    return f"{'−' if amount < 0 else ''}{whole:,}.{rest:02d} {(currency or '').upper()}"


def moment(seconds: int | None) -> str:
    """`2026-04-11 09:30` in UTC."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def summary(doc: Doc) -> tuple[str, str, str]:
    """What a row shows of a document: a title, a status, a remark."""
    if doc.get("deleted"):
        return doc["id"], "deleted", ""
    status = doc.get("status") or ("past due" if doc.get("delinquent") else "")
    remark = _REMARKS.get(doc["object"])
    return _title(doc), status, remark(doc) if remark else ""


def _title(doc: Doc) -> str:
    if doc["object"] in ("invoice", "credit_note"):
        return doc["number"] or "draft"
    if doc["object"] == "event":
        return str(doc["type"])
    named = ("name", "nickname", "display_name", "email", "url")
    return next((str(doc[name]) for name in named if doc.get(name)), str(doc["id"]))


def _about_invoice(doc: Doc) -> str:
    return f"{money(doc['total'], doc['currency'])} · {(doc['billing_reason'] or '').replace('_', ' ')}"


def _about_coupon(doc: Doc) -> str:
    if doc["percent_off"] is not None:
        return f"{doc['percent_off']:g} % off"
    return f"{money(doc['amount_off'], doc['currency'])} off"


_REMARKS: dict[str, Callable[[Doc], str]] = {
    "customer": lambda doc: doc["email"] or "",
    "invoice": _about_invoice,
    "subscription": lambda doc: f"{doc['currency'].upper()} · since {moment(doc['start_date'])}",
    "event": lambda doc: doc["_parent"],
    "test_helpers.test_clock": lambda doc: f"at {moment(doc['frozen_time'])}",
    "coupon": _about_coupon,
    "credit_note": lambda doc: f"{money(doc['total'], doc['currency'])} · {doc['memo'] or ''}",
    "refund": lambda doc: money(doc["amount"], doc["currency"]),
    "dispute": lambda doc: f"{money(doc['amount'], doc['currency'])} · {doc['reason']}",
    "payment_intent": lambda doc: money(doc["amount"], doc["currency"]),
    "price": lambda doc: money(doc["unit_amount"], doc["currency"]),
}


def newest(tx: Tx, kind: str, limit: int, before: int | None = None) -> list[Doc]:
    """The newest documents of a kind, below a place in the sequence."""
    if before is None:
        return tx.page("kind = ?", [kind], limit=limit, ascending=False)
    return tx.page("kind = ? AND seq < ?", [kind, before], limit=limit, ascending=False)


def pages(dispatcher: Dispatcher) -> Blueprint:
    """The pages that only show."""
    blueprint = Blueprint("pages", __name__, template_folder="templates")
    store = dispatcher.store
    blueprint.add_app_template_filter(money, "money")
    blueprint.add_app_template_filter(moment, "moment")
    blueprint.add_app_template_filter(summary, "summary")
    blueprint.app_context_processor(lambda: {"kinds": KINDS})

    @blueprint.get("/")
    def overview() -> str:
        with store.transaction_quietly() as tx:
            rows = tx.execute("SELECT kind, count(*) FROM objects GROUP BY kind")
            counts = {str(kind): count for kind, count in rows}
            [(pending,)] = tx.execute("SELECT count(*) FROM deliveries WHERE state IN ('pending', 'sending')")
            sections = [(name, newest(tx, KINDS[name], 8)) for name in _ON_OVERVIEW]
            return render_template("overview.html", counts=counts, pending=pending, sections=sections)

    @blueprint.get("/list/<name>")
    def listing(name: str) -> str:
        kind = KINDS.get(name) or abort(404)
        with store.transaction_quietly() as tx:
            rows = newest(tx, kind, _PER_PAGE + 1, request.args.get("before", type=int))
            further = tx.sequence(rows[_PER_PAGE - 1]["id"]) if len(rows) > _PER_PAGE else None
            return render_template("listing.html", name=name, rows=rows[:_PER_PAGE], further=further)

    @blueprint.get("/object/<object_id>")
    def one(object_id: str) -> str:
        with store.transaction_quietly() as tx:
            doc = tx.find(object_id) or abort(404)
            shown = render(tx, doc)
            history = tx.select("event", parent=object_id)[::-1][:30]
            ordered = {name: shown[name] for name in ("id", "object")} | dict(sorted(shown.items()))
            text = json.dumps(ordered, indent=2, ensure_ascii=False)
            return render_template("object.html", doc=doc, text=text, history=history)

    @blueprint.get("/customer/<customer_id>")
    def customer(customer_id: str) -> str:
        with store.transaction_quietly() as tx:
            doc = tx.find(customer_id)
            if doc is None or doc["object"] != "customer" or doc.get("deleted"):
                abort(404)
            return render_template("customer.html", **customer_context(tx, doc))

    return blueprint


def customer_context(tx: Tx, customer: Doc) -> dict[str, Any]:
    """What the customer's page shows."""
    return {
        "customer": public(customer),
        "cards": tx.select("payment_method", customer=customer["id"]),
        "subscriptions": tx.select("subscription", customer=customer["id"])[::-1],
        "invoices": tx.select("invoice", customer=customer["id"])[::-1][:40],
    }
