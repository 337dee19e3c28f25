"""An invoice's figures from its lines: item discounts, invoice discounts, then tax, then what is due.

Every share is rounded once. A percentage is taken of each line and rounded half away from zero; an amount off
is split over the lines that it may touch, in proportion, by largest remainder. Exclusive tax is added,
inclusive tax is found within, each per line and rate.
"""

from fractions import Fraction

from .. import Doc
from ..store import Tx
from .pricing import rounded


def recompute(tx: Tx, invoice: Doc) -> None:
    """Set every computed figure of a draft from its lines, discounts and tax rates."""
    lines: list[Doc] = invoice["_lines"]
    for line in lines:
        line["discount_amounts"] = []
    for line in lines:
        for discount_id in line["discounts"]:
            _apply_discount(tx, discount_id, [line], item_level=True)
    for discount_id in invoice["discounts"]:
        _apply_discount(tx, discount_id, lines, item_level=False)
    exempt = invoice["customer_tax_exempt"]
    for line in lines:
        line["pretax_credit_amounts"] = [
            {
                "amount": part["amount"],
                "credit_balance_transaction": None,
                "discount": part["discount"],
                "type": "discount",
            }
            for part in line["discount_amounts"]
        ]
        _tax_line(tx, invoice, line, exempt)
    _sum_up(invoice)


def net(line: Doc) -> int:
    """A line after its discounts, before exclusive tax."""
    return int(line["amount"]) - sum(int(part["amount"]) for part in line["discount_amounts"])


def allocate(amount: int, weights: list[int]) -> list[int]:
    """Split `amount` in proportion to `weights`, to the unit; the largest remainders get the odd units."""
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    shares = [Fraction(amount * weight, whole) for weight in weights]
    parts = [int(share // 1) for share in shares]
    left = amount - sum(parts)
    ranked = sorted(range(len(weights)), key=lambda index: (parts[index] - shares[index], index))
    for index in ranked[:left]:
        parts[index] += 1
    return parts


def _apply_discount(tx: Tx, discount_id: str, lines: list[Doc], *, item_level: bool) -> None:
    discount = tx.get("discount", discount_id)
    coupon = tx.get("coupon", discount["source"]["coupon"])
    touched = [
        line for line in lines if line["discountable"] and net(line) > 0 and applies(coupon, line, item_level)
    ]
    if not touched:
        return
    if coupon["percent_off"] is not None:
        share = Fraction(str(coupon["percent_off"])) / 100
        amounts = [rounded(net(line) * share, line["currency"]) for line in touched]
    else:
        nets = [net(line) for line in touched]
        off = min(amount_off(coupon, touched[0]["currency"]), sum(nets))
        amounts = allocate(off, nets)
    for line, amount in zip(touched, amounts, strict=True):
        line["discount_amounts"].append({"amount": amount, "discount": discount_id})


def applies(coupon: Doc, line: Doc, item_level: bool = False) -> bool:
    """Whether the coupon's products take in this line; a discount put on the item itself always does."""
    products = (coupon["_applies_to"] or {}).get("products")
    if not products or item_level:
        return True
    return ((line["pricing"] or {}).get("price_details") or {}).get("product") in products


def amount_off(coupon: Doc, currency: str) -> int:
    """The fixed amount of a coupon in `currency`; 0 when it has none in that currency."""
    if coupon["currency"] == currency:
        return int(coupon["amount_off"])
    option = (coupon["_currency_options"] or {}).get(currency)
    return int(option["amount_off"]) if option else 0


def _tax_line(tx: Tx, invoice: Doc, line: Doc, exempt: str | None) -> None:
    if line["_tax_amounts"] is not None:
        line["taxes"] = [dict(entry) for entry in line["_tax_amounts"]]
        return
    rates = [tx.get("tax_rate", rate) for rate in line["_tax_rates"] or invoice["_default_tax_rates"]]
    base = net(line)
    inclusive_share = sum((percentage(rate) for rate in rates if rate["inclusive"]), Fraction(0))
    before_tax = Fraction(base) / (1 + inclusive_share)
    line["taxes"] = [_tax(rate, before_tax, exempt, line["currency"]) for rate in rates]


def percentage(rate: Doc) -> Fraction:
    return Fraction(str(rate["percentage"])) / 100


def _tax(rate: Doc, before_tax: Fraction, exempt: str | None, currency: str) -> Doc:
    reason = {"exempt": "customer_exempt", "reverse": "reverse_charge"}.get(exempt or "none")
    amount = 0 if reason else rounded(before_tax * percentage(rate), currency)
    return {
        "amount": amount,
        "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": rate["id"]},
        "taxability_reason": reason or "not_available",
        "taxable_amount": 0 if reason else rounded(before_tax),
        "type": "tax_rate_details",
    }


def _sum_up(invoice: Doc) -> None:
    lines: list[Doc] = invoice["_lines"]
    subtotal = sum(line["amount"] for line in lines)
    off: dict[str, int] = {}
    for line in lines:
        for part in line["discount_amounts"]:
            off[part["discount"]] = off.get(part["discount"], 0) + part["amount"]
    taxes = _total_taxes(lines)
    exclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    total = subtotal - sum(off.values()) + exclusive
    invoice |= {
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive,
        "total": total,
        "total_excluding_tax": total - exclusive - inclusive,
        "total_taxes": taxes,
        "total_discount_amounts": [{"amount": amount, "discount": key} for key, amount in off.items()],
        "total_pretax_credit_amounts": [
            {"amount": amount, "credit_balance_transaction": None, "discount": key, "type": "discount"}
            for key, amount in off.items()
        ],
    }


def _total_taxes(lines: list[Doc]) -> list[Doc]:
    merged: dict[tuple[str, str, str], Doc] = {}
    for line in lines:
        for tax in line["taxes"]:
            key = (tax["tax_rate_details"]["tax_rate"], tax["tax_behavior"], tax["taxability_reason"])
            if key in merged:
                merged[key]["amount"] += tax["amount"]
                merged[key]["taxable_amount"] += tax["taxable_amount"]
            else:
                merged[key] = dict(tax)
    return list(merged.values())


def set_due(invoice: Doc, balance: int) -> None:
    """What a customer balance (negative: credit) leaves due of the total; on a draft this is a forecast."""
    total = invoice["total"]
    due = total + balance
    invoice["starting_balance"] = balance
    invoice["amount_due"] = max(0, due)
    invoice["amount_remaining"] = max(0, invoice["amount_due"] - invoice["amount_paid"])


def balance_after(invoice: Doc) -> int:
    """The customer balance once the invoice has used (or, when its total is negative, added) its part."""
    return min(0, int(invoice["total"]) + int(invoice["starting_balance"]))
