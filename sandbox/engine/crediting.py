"""Credit notes: lowering what is owed on an open invoice, or giving back from a paid one."""

from fractions import Fraction
from typing import Any

from .. import Doc
from ..errors import invalid, missing
from ..ids import new_id
from ..world import World, clock_of
from . import collect
from .pricing import plain, rounded
from .refunding import RefundTerms, charge_of_intent, refund


def issue(world: World, invoice: Doc, params: dict[str, Any]) -> Doc:
    """Issue a credit note.

    `lines` credit lines of the invoice by amount or quantity (discounts and taxes follow in proportion),
    or name a custom amount; without lines, `amount` is one custom line. On a paid invoice the total must be
    covered by `refund_amount`, `refunds`, `credit_amount` and `out_of_band_amount` together.
    Raises: ApiError 400 beyond what is left to credit, or when those do not add up.
    """
    if invoice["status"] not in {"open", "paid", "uncollectible"}:
        raise invalid(
            "You can only create credit notes for open, paid or uncollectible invoices.", param="invoice"
        )
    lines = _lines(invoice, params)
    total = sum(_total(line) for line in lines)
    if total <= 0 or total > creditable(world, invoice):
        raise invalid(
            "The credit note's total must be positive and at most what is left to credit.", param="amount"
        )
    before = min(total, invoice["amount_remaining"]) if invoice["status"] != "paid" else 0
    note = _document(world, invoice, params, lines, before)
    world.tx.add(note)
    if total > before:
        _give_back(world, invoice, note, params, total - before)
    _lower_invoice(world, invoice, before, total - before)
    world.emit("credit_note.created", note)
    return note


def creditable(world: World, invoice: Doc) -> int:
    """What of the invoice's total no credit note has taken yet."""
    issued = (
        note for note in world.tx.select("credit_note", invoice=invoice["id"]) if note["status"] == "issued"
    )
    return int(invoice["total"]) - sum(int(note["total"]) for note in issued)


def _total(line: Doc) -> int:
    exclusive = sum(tax["amount"] for tax in line["taxes"] if tax["tax_behavior"] == "exclusive")
    return int(line["amount"] - line["discount_amount"] + exclusive)


def _lines(invoice: Doc, params: dict[str, Any]) -> list[Doc]:
    given = params.get("lines")
    if given:
        return [_line(invoice, entry) for entry in given]
    amount = params.get("amount")
    if amount is None:
        parts = ("refund_amount", "credit_amount", "out_of_band_amount")
        amount = sum(params.get(name) or 0 for name in parts)
    return [_custom({"amount": amount, "description": params.get("memo")})]


def _line(invoice: Doc, entry: dict[str, Any]) -> Doc:
    if entry.get("type") == "custom_line_item":
        return _custom(entry)
    wanted = entry.get("invoice_line_item")
    source = next((line for line in invoice["_lines"] if line["id"] == wanted), None)
    if source is None:
        raise missing("line_item", str(wanted), param="lines[0][invoice_line_item]", status=400)
    quantity = entry.get("quantity")
    if entry.get("amount") is not None:
        share = Fraction(entry["amount"], source["amount"]) if source["amount"] else Fraction(0)
    else:
        whole = source["quantity"] or 1
        share = Fraction(quantity if quantity is not None else whole, whole)
    amount = rounded(source["amount"] * share)
    discount_amounts = [
        {"amount": rounded(part["amount"] * share), "discount": part["discount"]}
        for part in source["discount_amounts"]
    ]
    taxes = [
        tax
        | {
            "amount": rounded(tax["amount"] * share),
            "taxable_amount": rounded((tax["taxable_amount"] or 0) * share),
        }
        for tax in source["taxes"]
    ]
    pricing = source["pricing"] or {}
    return _shape(
        {
            "amount": amount,
            "description": source["description"],
            "discount_amount": sum(part["amount"] for part in discount_amounts),
            "discount_amounts": discount_amounts,
            "invoice_line_item": source["id"],
            "quantity": quantity,
            "taxes": taxes,
            "type": "invoice_line_item",
            "unit_amount_decimal": pricing.get("unit_amount_decimal") if quantity is not None else None,
        }
    )


def _custom(entry: dict[str, Any]) -> Doc:
    unit = entry.get("unit_amount_decimal")
    if entry.get("unit_amount") is not None:
        unit = Fraction(entry["unit_amount"])
    amount = entry.get("amount")
    if amount is None:
        if unit is None:
            raise invalid(
                "Missing required param: lines[0][amount].",
                param="lines[0][amount]",
                code="parameter_missing",
            )
        amount = rounded(Fraction(unit) * entry.get("quantity", 1))
    return _shape(
        {
            "amount": amount,
            "description": entry.get("description"),
            "quantity": entry.get("quantity"),
            "type": "custom_line_item",
            "unit_amount_decimal": None
            if entry.get("unit_amount_decimal") is None
            else plain(entry["unit_amount_decimal"]),
        }
    )


def _shape(line: Doc) -> Doc:
    return {
        "id": new_id("credit_note_line_item"),
        "object": "credit_note_line_item",
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": None,
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "taxes": [],
        "unit_amount": None,
        "_tax_rates": [],
    } | line


def _document(world: World, invoice: Doc, params: dict[str, Any], lines: list[Doc], before: int) -> Doc:
    taxes = [tax for line in lines for tax in line["taxes"]]
    exclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    subtotal = sum(line["amount"] for line in lines)
    discounts = [part for line in lines for part in line["discount_amounts"]]
    off = sum(part["amount"] for part in discounts)
    total = subtotal - off + exclusive
    count = len(world.tx.select("credit_note", invoice=invoice["id"])) + 1
    note_id = new_id("credit_note")
    after = total - before
    kind = "mixed" if before and after else "pre_payment" if before else "post_payment"
    return {
        "id": note_id,
        "object": "credit_note",
        "amount": total,
        "amount_shipping": 0,
        "created": world.now_of(invoice),
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amount": off,
        "discount_amounts": discounts,
        "effective_at": params.get("effective_at") or world.now_of(invoice),
        "invoice": invoice["id"],
        "livemode": False,
        "memo": params.get("memo"),
        "metadata": params.get("metadata") or {},
        "number": f"{invoice['number']}-CN-{count:02d}",
        "out_of_band_amount": params.get("out_of_band_amount"),
        "pdf": f"{world.base_url}/object/{note_id}?print=1",
        "post_payment_amount": after,
        "pre_payment_amount": before,
        "pretax_credit_amounts": [],
        "reason": params.get("reason"),
        "refunds": [],
        "shipping_cost": None,
        "status": "issued",
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive,
        "total": total,
        "total_excluding_tax": total - exclusive - inclusive,
        "total_taxes": taxes,
        "type": kind,
        "voided_at": None,
        "_clock": clock_of(invoice),
        "_lines": lines,
    }


def _give_back(world: World, invoice: Doc, note: Doc, params: dict[str, Any], amount: int) -> None:
    linked = [
        world.tx.get("refund", entry["refund"], param="refunds") for entry in params.get("refunds") or []
    ]
    refunded = sum(doc["amount"] for doc in linked)
    wanted = {
        name: params.get(name) or 0 for name in ("refund_amount", "credit_amount", "out_of_band_amount")
    }
    if sum(wanted.values()) + refunded != amount:
        raise invalid(
            "The sum of credit amount, refund amount and out of band amount must equal the "
            "post payment amount "
            f"({amount}).",
            param="refund_amount",
        )
    if wanted["refund_amount"]:
        if invoice["_payment_intent"] is None:
            raise invalid("There is no payment to refund on this invoice.", param="refund_amount")
        charge = charge_of_intent(world, invoice["_payment_intent"])
        linked.append(refund(world, RefundTerms(charge=charge, amount=wanted["refund_amount"])))
    note["refunds"] = [
        {
            "amount_refunded": doc["amount"],
            "payment_record_refund": None,
            "refund": doc["id"],
            "type": "refund",
        }
        for doc in linked
    ]
    if wanted["credit_amount"]:
        customer = world.tx.get("customer", invoice["customer"])
        entry = collect.credit_customer(
            world, customer, wanted["credit_amount"], currency=invoice["currency"], credit_note=note["id"]
        )
        note["customer_balance_transaction"] = entry["id"]


def _lower_invoice(world: World, invoice: Doc, before: int, after: int) -> None:
    with world.changing(invoice, "invoice.updated"):
        invoice["pre_payment_credit_notes_amount"] += before
        invoice["post_payment_credit_notes_amount"] += after
        invoice["amount_due"] -= before
        invoice["amount_remaining"] -= before
    if before and invoice["amount_remaining"] == 0:
        collect.settle(world, invoice, 0)


def void_note(world: World, note: Doc) -> None:
    """Take a credit note of an open invoice back. Raises: ApiError 400 once the invoice is paid."""
    invoice = world.tx.get("invoice", note["invoice"])
    if note["status"] != "issued" or invoice["status"] != "open":
        raise invalid("You can only void credit notes on open invoices.", code="status_transition_invalid")
    note |= {"status": "void", "voided_at": world.now_of(invoice)}
    with world.changing(invoice, "invoice.updated"):
        invoice["pre_payment_credit_notes_amount"] -= note["pre_payment_amount"]
        invoice["amount_due"] += note["pre_payment_amount"]
        invoice["amount_remaining"] += note["pre_payment_amount"]
    world.emit("credit_note.voided", note)
