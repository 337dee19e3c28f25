"""From stored documents to the shapes of the API: sub-objects put in, own keys out, `expand` obeyed."""

from collections.abc import Callable
from typing import Any

from . import Doc
from .errors import malformed
from .store import Tx

_EMBEDDED_LINES = 10
_MAX_DEPTH = 4

_EXPANDABLE = frozenset(
    {
        "charge",
        "coupon",
        "customer",
        "customer_balance_transaction",
        "default_payment_method",
        "default_price",
        "discount",
        "discounts",
        "invoice",
        "latest_attempt",
        "latest_charge",
        "latest_invoice",
        "latest_revision",
        "payment_intent",
        "payment_method",
        "pending_setup_intent",
        "price",
        "product",
        "refund",
        "setup_intent",
        "subscription",
        "test_clock",
    }
)


def render(tx: Tx, doc: Doc) -> Doc:
    """The public shape of a document, nothing expanded."""
    if doc.get("deleted"):
        return public(doc)
    renderer = _RENDERERS.get(doc["object"])
    return renderer(tx, doc) if renderer else public(doc)


def render_expanded(tx: Tx, doc: Doc, expand: list[str]) -> Doc:
    """The public shape with the `expand` paths of a request opened.

    Raises: ApiError 400 for a path that is too deep or names nothing expandable.
    """
    return open_paths(tx, render(tx, doc), expand)


def open_paths(tx: Tx, shaped: Doc, expand: list[str]) -> Doc:
    """Open `expand` paths in what is already rendered: an object, or a list of them (`data.` first)."""
    for path in expand:
        parts = path.split(".")
        if len(parts) - parts.count("data") > _MAX_DEPTH:
            raise malformed(f"You cannot expand more than {_MAX_DEPTH} levels of a property.", param="expand")
        _open(tx, shaped, parts, path)
    return shaped


def public(doc: Doc) -> Doc:
    """`doc` without the sandbox's own keys."""
    return {key: value for key, value in doc.items() if not key.startswith("_")}


def list_object(url: str, items: list[Doc], *, has_more: bool = False) -> Doc:
    return {"object": "list", "data": items, "has_more": has_more, "url": url}


def _open(tx: Tx, node: Doc, parts: list[str], path: str) -> None:
    key, rest = parts[0], parts[1:]
    if key == "data" and node.get("object") == "list":
        node["data"] = _copied(node["data"])
        for item in node["data"]:
            if rest:
                _open(tx, item, rest, path)
        return
    _open_field(tx, node, key, path)
    if rest:
        # A copy of what is inside: it may be a part of the stored document, which stays as it is.
        node[key] = _copied(node[key])
        for child in node[key] if isinstance(node[key], list) else [node[key]]:
            if isinstance(child, dict):
                _open(tx, child, rest, path)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


def _open_field(tx: Tx, node: Doc, key: str, path: str) -> None:
    if key not in node:
        include = _INCLUDABLE.get((str(node.get("object")), key))
        if include is None:
            raise malformed(f"This property cannot be expanded ({path}).", param="expand[]")
        stored = tx.find(node["id"])
        node[key] = include(tx, stored) if stored is not None else None
    elif key in _EXPANDABLE:
        node[key] = _opened(tx, node[key])
    elif not isinstance(node[key], dict | list) and node[key] is not None:
        raise malformed(f"This property cannot be expanded ({path}).", param="expand[]")


def _opened(tx: Tx, value: Any) -> Any:
    if isinstance(value, list):
        return [_opened(tx, item) for item in value]
    if isinstance(value, str) and (found := tx.find(value)) is not None:
        return render(tx, found)
    return value


# -- kinds whose stored document holds ids where the API shows whole objects -----------


def tax_rates(tx: Tx, ids: list[str]) -> list[Doc]:
    return [render(tx, tx.get("tax_rate", rate)) for rate in ids]


def plan_of(price: Doc) -> Doc:
    """The legacy `plan` that the API still shows beside a recurring price."""
    recurring = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": price["transform_quantity"],
        "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }


def _subscription_item(tx: Tx, doc: Doc) -> Doc:
    price = render(tx, tx.get("price", doc["_price"]))
    return public(doc) | {
        "price": price,
        "plan": plan_of(price),
        "tax_rates": tax_rates(tx, doc["_tax_rates"]),
    }


def _subscription(tx: Tx, doc: Doc) -> Doc:
    items = [render(tx, item) for item in tx.select("subscription_item", subscription=doc["id"])]
    listed = list_object(f"/v1/subscription_items?subscription={doc['id']}", items) | {
        "total_count": len(items)
    }
    return public(doc) | {"items": listed, "default_tax_rates": tax_rates(tx, doc["_default_tax_rates"])}


def _line(line: Doc) -> Doc:
    return public(line)


def _invoice(tx: Tx, doc: Doc) -> Doc:
    lines = [_line(line) for line in doc["_lines"]]
    listed = list_object(
        f"/v1/invoices/{doc['id']}/lines", lines[:_EMBEDDED_LINES], has_more=len(lines) > _EMBEDDED_LINES
    ) | {"total_count": len(lines)}
    return public(doc) | {"lines": listed, "default_tax_rates": tax_rates(tx, doc["_default_tax_rates"])}


def _invoice_item(tx: Tx, doc: Doc) -> Doc:
    return public(doc) | {"tax_rates": tax_rates(tx, doc["_tax_rates"])}


def _credit_note(tx: Tx, doc: Doc) -> Doc:
    lines = [public(line) | {"tax_rates": tax_rates(tx, line["_tax_rates"])} for line in doc["_lines"]]
    listed = list_object(f"/v1/credit_notes/{doc['id']}/lines", lines[:_EMBEDDED_LINES])
    return public(doc) | {
        "lines": listed | {"has_more": len(lines) > _EMBEDDED_LINES, "total_count": len(lines)}
    }


def _event(tx: Tx, doc: Doc) -> Doc:
    [(pending,)] = tx.execute(
        "SELECT count(*) FROM deliveries WHERE event = ? AND state IN ('pending', 'sending')", (doc["id"],)
    )
    return public(doc) | {"pending_webhooks": pending}


_RENDERERS: dict[str, Callable[[Tx, Doc], Doc]] = {
    "subscription_item": _subscription_item,
    "subscription": _subscription,
    "invoice": _invoice,
    "invoiceitem": _invoice_item,
    "credit_note": _credit_note,
    "event": _event,
}


# -- fields that appear only when expanded ---------------------------------------------


def _payments(tx: Tx, invoice: Doc) -> Doc:
    found = [render(tx, doc) for doc in tx.select("invoice_payment", invoice=invoice["id"])]
    return list_object(f"/v1/invoice_payments?invoice={invoice['id']}", found)


def _confirmation_secret(tx: Tx, invoice: Doc) -> Doc | None:
    if invoice["status"] != "open" or invoice.get("_payment_intent") is None:
        return None
    intent = tx.get("payment_intent", invoice["_payment_intent"])
    return {"client_secret": intent["client_secret"], "type": "payment_intent"}


def _subscriptions(tx: Tx, customer: Doc) -> Doc:
    live = [doc for doc in tx.select("subscription", customer=customer["id"]) if doc["status"] not in ENDED]
    return list_object(f"/v1/customers/{customer['id']}/subscriptions", [render(tx, doc) for doc in live])


def _empty_list(name: str) -> Callable[[Tx, Doc], Doc]:
    return lambda _tx, doc: list_object(f"/v1/customers/{doc['id']}/{name}", [])


ENDED = frozenset({"canceled", "incomplete_expired"})
"""Statuses of a subscription that is over."""

_INCLUDABLE: dict[tuple[str, str], Callable[[Tx, Doc], Any]] = {
    ("invoice", "payments"): _payments,
    ("invoice", "confirmation_secret"): _confirmation_secret,
    ("price", "tiers"): lambda _tx, doc: doc["_tiers"],
    ("price", "currency_options"): lambda _tx, doc: doc["_currency_options"],
    ("coupon", "applies_to"): lambda _tx, doc: doc["_applies_to"],
    ("customer", "subscriptions"): _subscriptions,
    ("customer", "tax_ids"): _empty_list("tax_ids"),
    ("customer", "sources"): _empty_list("sources"),
    ("charge", "refunds"): lambda tx, doc: list_object(
        f"/v1/charges/{doc['id']}/refunds",
        [render(tx, refund) for refund in tx.select("refund", parent=doc["id"])],
    ),
}
