"""Fixtures of older versions: shaped as those versions were, and read as the current ones are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.triggering.aging import Links, aged
from gateway import translate

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "stripe_payloads"
VERSIONS = ["2024-06-20", "2024-09-30.acacia", "2025-03-31.basil", "2025-09-30.clover", "2026-03-25.dahlia"]
LINKS = Links("in_1", "pi_1", "ch_1")


def about(train: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PAYLOADS / train / f"{name}.json").read_text())["data"]["object"]
    return found


CREDIT_NOTE = {
    "id": "cn_1",
    "object": "credit_note",
    "invoice": "in_1",
    "customer": "cus_1",
    "number": "CN-1",
    "status": "issued",
    "type": "post_payment",
    "total": 500,
    "currency": "usd",
    "pre_payment_amount": 0,
    "post_payment_amount": 500,
    "refunds": [{"amount_refunded": 500, "refund": "re_1", "type": "refund"}],
    "customer_balance_transaction": None,
    "out_of_band_amount": None,
    "total_taxes": [{"amount": 65, "tax_behavior": "exclusive", "tax_rate_details": {"tax_rate": "txr_1"}}],
    "memo": "an outage",
    "metadata": {},
}
INTENT = {
    "id": "pi_1",
    "object": "payment_intent",
    "status": "requires_payment_method",
    "amount": 500,
    "currency": "usd",
    "customer": "cus_1",
    "payment_method": None,
    "latest_charge": "ch_1",
    "allowed_payment_method_types": None,
    "last_payment_error": {"code": "card_declined", "decline_code": "insufficient_funds"},
}
CHARGE = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "amount_refunded": 200}
SETUP = {
    "id": "seti_1",
    "object": "setup_intent",
    "status": "succeeded",
    "customer": "cus_1",
    "payment_method": "pm_1",
    "allowed_payment_method_types": ["card"],
    "metadata": {},
}
CUSTOMER = {
    "id": "cus_1",
    "object": "customer",
    "email": "a@b.test",
    "balance": -500,
    "currency": "usd",
    "discount": {"id": "di_1", "object": "discount", "source": {"type": "coupon", "coupon": "c_1"}},
    "invoice_settings": {"default_payment_method": "pm_1"},
    "metadata": {},
}
READERS: dict[str, tuple[dict[str, Any], Callable[[Any], object]]] = {
    "invoice": (about("endive", "invoice.finalized"), translate.invoice),
    "subscription": (about("endive", "customer.subscription.updated"), translate.subscription),
    "credit_note": (CREDIT_NOTE, translate.credit_note),
    "payment_intent": (INTENT, translate.payment_intent),
    "charge": (CHARGE, translate.charge),
    "setup_intent": (SETUP, translate.setup_intent),
    "customer": (CUSTOMER, translate.customer),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", READERS)
def test_an_aged_object_says_what_the_current_one_says(kind: str, version: str) -> None:
    shape, read = READERS[kind]
    without_secret = {**shape, "confirmation_secret": None} if kind == "invoice" else shape
    assert read(aged(without_secret, version, LINKS)) == read(without_secret)


@pytest.mark.parametrize("name", ["invoice.finalized", "customer.subscription.updated"])
@pytest.mark.parametrize("train", ["acacia", "basil", "clover", "dahlia"])
def test_an_aged_object_has_the_fields_of_its_version(name: str, train: str) -> None:
    made = aged(about("endive", name), f"2025-01-01.{train}", LINKS)
    assert set(made) == set(about(train, name))


@pytest.mark.parametrize("train", ["acacia", "basil", "clover", "dahlia"])
def test_an_aged_line_has_the_fields_of_its_version(train: str) -> None:
    made = aged(about("endive", "invoice.finalized"), f"2025-01-01.{train}", LINKS)
    for line, real in zip(
        made["lines"]["data"], about(train, "invoice.finalized")["lines"]["data"], strict=True
    ):
        assert set(line) == set(real)


def test_what_old_versions_named_directly_is_named() -> None:
    invoice = aged(about("endive", "invoice.finalized"), "2024-06-20", LINKS)
    assert (invoice["subscription"], invoice["charge"], invoice["payment_intent"]) == (
        "sub_1",
        "ch_1",
        "pi_1",
    )
    assert aged(CHARGE, "2024-06-20", LINKS)["invoice"] == "in_1"
    assert aged(INTENT, "2024-06-20", LINKS)["invoice"] == "in_1"
    assert aged(CREDIT_NOTE, "2024-06-20", LINKS)["refund"] == "re_1"
    assert aged(CUSTOMER, "2024-06-20", LINKS)["discount"]["coupon"] == "c_1"
    assert aged(SETUP, "2026-03-25.dahlia", LINKS)["payment_method_types"] == ["card"]


def test_the_current_version_is_as_it_is() -> None:
    for shape, _ in READERS.values():
        assert aged(shape, "2026-10-28.endive") == shape
