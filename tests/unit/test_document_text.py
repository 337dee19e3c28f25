"""What is printed on an invoice, word for word."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.rating import ChargeTerms
from models.document_queries import InvoiceDocument
from models.organizations import Organization
from tasks.document_text import date_text, document_text, quantity_text, seller_text, unit_price_text
from tests.unit import invoice_samples as samples


def printed(document: InvoiceDocument) -> dict[str, Any]:
    text: dict[str, Any] = plain_spaces(
        document_text(document, seller_text("Rozitech", "12 Loop Street\\nCape Town 8001", "4870212345"))
    )
    return text


def plain_spaces(value: Any) -> Any:
    """Unbreakable spaces and true minuses are typography; the tests read without them."""
    if isinstance(value, dict):
        return {name: plain_spaces(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain_spaces(each) for each in value]
    return value.replace("\u00a0", " ").replace("\u2212", "-") if isinstance(value, str) else value


def sums(text: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["name"], row["amount"]) for row in text["totals"]]


def test_a_plan_with_usage_shows_where_the_usage_amount_comes_from() -> None:
    text = printed(samples.one_plan().document("open"))

    assert text["headline"] == "$561.23 due"
    assert text["groups"] == [
        {
            "name": "AutoFlow AI",
            "color": "#4F46E5",
            "amount": "$561.23",
            "lines": [
                {
                    "description": "AutoFlow AI Professional",
                    "note": "1 Apr 2026 – 1 May 2026",
                    "quantity": "1",
                    "unit_price": "$75.00",
                    "amount": "$75.00",
                    "discount": "",
                },
                {
                    "description": "AutoFlow AI: Workflow runs",
                    "note": "1 Mar 2026 – 1 Apr 2026",
                    "quantity": "42,415",
                    "unit_price": "see usage",
                    "amount": "$486.23",
                    "discount": "",
                },
            ],
        }
    ]
    # 42,415 - 10,000 included = 32,415 x 0.015 = 486.225, rounded half away from zero
    assert text["usage"] == [
        {
            "title": "AutoFlow AI: workflow runs",
            "note": "1 Mar 2026 – 1 Apr 2026, 42,415 from 41,900 events",
            "steps": [
                {"label": "Included", "quantity": "10,000", "unit_price": "$0.00", "amount": "$0.00"},
                {
                    "label": "Above 10,000 to 100,000",
                    "quantity": "32,415",
                    "unit_price": "$0.015",
                    "amount": "$486.225",
                },
            ],
            "amount": "$486.23",
        }
    ]


def test_a_bundle_in_rand_names_its_discount_and_its_tax() -> None:
    text = printed(samples.zar_bundle().document("open"))

    assert text["kind"] == "Tax invoice"
    # 649.00 + 295.05 + 5 x 459.00 = 3,239.05; the bundle takes off 109.00; VAT is 15 % of the rest.
    assert sums(text) == [
        ("Subtotal", "R 3 239,05"),
        ("Starter Bundle discount", "-R 109,00"),
        ("VAT 15 % on R 3 130,05", "R 469,51"),
        ("Total", "R 3 599,56"),
        ("Amount due", "R 3 599,56"),
    ]
    seats = text["groups"][1]["lines"][0]
    assert (seats["quantity"], seats["unit_price"]) == ("5", "R 459,00")
    assert (seats["amount"], seats["discount"]) == ("R 2 295,00", "-R 45,15")
    assert text["groups"][1]["amount"] == "R 2 249,85"


def test_tax_inside_the_prices_is_shown_and_not_added() -> None:
    sheet = samples.Sheet()
    sheet.charge(samples.TEAMSPACE, "TeamSpace Starter", 11_500, tax=1_500)

    text = printed(sheet.document("open", tax_inclusive=True, tax_minor=0, total_minor=11_500))

    assert sums(text) == [
        ("Subtotal", "$115.00"),
        ("Total", "$115.00"),
        ("of which VAT 15 %", "$15.00"),
        ("Amount due", "$115.00"),
    ]


def test_credit_is_taken_off_and_an_invoice_below_zero_adds_to_it() -> None:
    sheet = samples.Sheet()
    sheet.charge(samples.TEAMSPACE, "TeamSpace Starter", 2_500)

    used = sheet.document("open", credit_minor=1_000, total_minor=1_500)
    added = sheet.document("open", credit_minor=-1_000, total_minor=3_500)

    assert ("Credit used", "-$10.00") in sums(printed(used))
    assert ("Added to your credit", "$10.00") in sums(printed(added))


def test_a_paid_invoice_tells_of_each_attempt() -> None:
    sheet = samples.one_plan()
    sheet.attempt("failed", samples.FINALIZED, "Your card has insufficient funds.")
    sheet.attempt("succeeded", samples.FINALIZED + timedelta(days=1))

    text = printed(sheet.document("paid"))

    assert text["headline"] == "$561.23 paid, thank you"
    assert sums(text)[-2:] == [("Paid", "-$561.23"), ("Amount due", "$0.00")]
    told = [(each["attempt"], each["at"], each["status_word"], each["reason"]) for each in text["payments"]]
    assert told == [
        ("1", "1 Apr 2026", "Declined", "Your card has insufficient funds."),
        ("2", "2 Apr 2026", "Paid", ""),
    ]


@pytest.mark.parametrize(
    ("status", "headline", "last_sum"),
    [
        ("draft", "$561.23 so far, nothing to pay yet", "Total"),
        ("void", "Void: nothing to pay", "Total"),
        ("uncollectible", "$561.23 was not paid", "Amount due"),
        ("open", "$561.23 due", "Amount due"),
    ],
)
def test_only_what_is_owed_is_asked_for(status: str, headline: str, last_sum: str) -> None:
    text = printed(samples.one_plan().document(status))

    assert text["headline"] == headline
    assert text["totals"][-1]["name"] == last_sum
    assert (text["pay_url"] is not None) == (status == "open")


def test_a_link_that_is_no_web_address_is_not_printed() -> None:
    document = samples.one_plan().document("open", hosted_invoice_url="javascript:alert(1)")

    assert printed(document)["pay_url"] is None


def test_a_draft_has_no_number_and_no_date() -> None:
    text = printed(samples.one_plan().document("draft"))

    assert text["title"] == "Draft invoice"
    assert ["Invoice number", "not yet numbered"] in text["facts"]
    assert ["Issued", "not yet issued"] in text["facts"]


def test_a_trial_owes_nothing() -> None:
    sheet = samples.Sheet()
    sheet.charge(samples.AUTOFLOW, "AutoFlow AI Professional (free trial)", 0)

    text = printed(sheet.document("paid"))

    assert text["headline"] == "Nothing to pay"
    assert text["groups"][0]["lines"][0]["unit_price"] == "$0.00"


def test_a_correction_says_what_was_invoiced_before() -> None:
    sheet = samples.Sheet()
    sheet.usage(
        "1200", ChargeTerms.from_record({"model": "per_unit", "currency": "USD", "unit_price": "2"}), 1
    )
    line = sheet.lines[0].line
    line.explanation["adjusts"] = {"billed_minor": 2_000}
    line.amount_minor -= 2_000

    text = printed(sheet.document("open"))

    assert text["groups"][0]["lines"][0]["note"] == (
        "1 Mar 2026 – 1 Apr 2026, of which $20.00 was invoiced before"
    )
    assert text["groups"][0]["lines"][0]["unit_price"] == "see usage"


def test_lines_of_one_product_stand_together() -> None:
    sheet = samples.Sheet()
    sheet.charge(samples.TEAMSPACE, "TeamSpace Starter", 2_500)
    sheet.charge(samples.AUTOFLOW, "AutoFlow AI Starter", 3_500)
    sheet.charge(samples.TEAMSPACE, "TeamSpace seats from 10 March", 1_000)

    groups = printed(sheet.document("open"))["groups"]

    assert [(group["name"], len(group["lines"])) for group in groups] == [
        ("TeamSpace", 2),
        ("AutoFlow AI", 1),
    ]


def test_the_parties_are_written_as_on_an_envelope() -> None:
    text = printed(samples.zar_bundle().document("open"))

    assert text["seller"] == {
        "name": "Rozitech",
        "lines": ["12 Loop Street", "Cape Town 8001", "Tax number 4870212345"],
    }
    assert text["customer"]["lines"] == [
        "14 Kerkstraat",
        "6280 Graaff-Reinet",
        "Eastern Cape",
        "ZA",
        "rekeninge@karoo.example",
    ]


def test_an_organization_without_address_still_has_its_mail() -> None:
    sheet = samples.Sheet(
        organization=Organization(id=samples.ACME.id, slug="a", name="A", email="a@a.example")
    )

    assert printed(sheet.document("open"))["customer"]["lines"] == ["a@a.example"]


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        ("7500", "USD", "$75.00"),
        ("1.5", "USD", "$0.015"),
        ("0.000000000001", "USD", "$0.00000000000001"),
        ("123456.75", "USD", "$1,234.5675"),
        ("-1.5", "USD", "-$0.015"),
        ("35", "ZAR", "R 0,35"),
        ("16.5", "ZAR", "R 0,165"),
        ("0.25", "JPY", "JPY 0.25"),
        ("1.5", "KWD", "KWD 0.0015"),
    ],
)
def test_unit_prices_keep_all_their_decimals(minor: str, currency: str, text: str) -> None:
    assert plain_spaces(unit_price_text(Decimal(minor), currency)) == text


@pytest.mark.parametrize(
    ("quantity", "currency", "text"),
    [
        ("42415.500000000000", "USD", "42,415.5"),
        ("42415.5", "ZAR", "42 415,5"),
        ("1E+3", "USD", "1,000"),
        ("-12", "USD", "-12"),
        ("0", "ZAR", "0"),
    ],
)
def test_quantities_are_written_as_the_money_beside_them(quantity: str, currency: str, text: str) -> None:
    assert plain_spaces(quantity_text(Decimal(quantity), currency)) == text


def test_dates_are_of_utc() -> None:
    assert plain_spaces(date_text(samples.MARCH)) == "1 Mar 2026"
