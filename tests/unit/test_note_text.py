"""What is printed of credit notes, on their own document and on the invoice's."""

from typing import Any

from tasks.document_text import document_text, seller_text
from tasks.documents import render, render_note
from tasks.note_text import note_text
from tests.unit import invoice_samples as samples
from tests.unit.test_document_text import plain_spaces
from tests.unit.test_documents import HOSTILE, SETTINGS, pages

SELLER = seller_text("Rozitech", "12 Loop Street", "")


def sums(text: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["name"], row["amount"]) for row in text["totals"]]


def whole_note() -> samples.Sheet:
    """The bundle in rand, credited whole: 290.00 of it was paid by credit."""
    sheet = samples.zar_bundle()
    note = sheet.credit("Ordered twice", refund_minor=3_309_56, credit_minor=290_00)
    assert note.amount_minor == sheet.invoice("paid").total_minor
    return sheet


def test_a_credit_note_says_what_of_which_invoice_and_where_it_goes() -> None:
    text = plain_spaces(note_text(whole_note().note_document(), SELLER))

    assert (text["title"], text["headline"]) == ("Credit note KAROO-CN-000001", "R 3 599,56 credited")
    assert ["For invoice", "KAROO-000042"] in text["facts"]
    assert [line["total"] for group in text["groups"] for line in group["lines"]] == [
        "R 672,92",  # 649.00 - 63.85 + 87.77
        "R 339,31",
        "R 2 587,33",
    ]
    assert sums(text) == [
        ("Subtotal", "R 3 239,05"),
        ("Discount", "-R 109,00"),
        ("VAT 15 % on R 3 130,05", "R 469,51"),
        ("Total credited", "R 3 599,56"),
    ]
    assert text["settled"] == [
        ["Refunded to the card", "R 3 309,56"],
        ["Added to your credit", "R 290,00"],
    ]


def test_an_invoice_refers_to_its_notes_and_asks_for_the_rest() -> None:
    sheet = samples.one_plan()
    sheet.credit("Two days of outage", reduces_due_minor=50_00)

    text = plain_spaces(document_text(sheet.document("open", reduced_minor=50_00), SELLER))

    assert text["headline"] == "$511.23 due"
    assert sums(text)[-2:] == [("Credit notes", "-$50.00"), ("Amount due", "$511.23")]
    assert text["credit_notes"] == [
        {
            "number": "ACME-CN-000001",
            "at": "1 May 2026",
            "reason": "Two days of outage",
            "settled": "Taken off what was due",
            "amount": "-$50.00",
        }
    ]


def test_an_invoice_that_was_credited_in_full_thanks_for_no_money() -> None:
    total = samples.one_plan().invoice("open").total_minor
    document = samples.one_plan().document("paid", reduced_minor=total, paid_minor=0)

    text = plain_spaces(document_text(document, SELLER))

    assert text["headline"] == "Credited in full: nothing to pay"
    assert sums(text)[-1] == ("Amount due", "$0.00")


def test_the_same_note_is_the_same_file_on_one_page() -> None:
    first, again = (render_note(whole_note().note_document(), SETTINGS) for _ in range(2))

    assert first == again
    assert pages(first) == 1
    assert b"/Title(Credit note KAROO-CN-000001)" in first


def test_a_note_of_two_hundred_lines_runs_over_pages() -> None:
    sheet = samples.many_lines(200)
    sheet.credit("All of it", credit_minor=sheet.invoice("paid").total_minor)

    assert pages(render_note(sheet.note_document(), SETTINGS)) == 11


def test_a_reason_is_text_and_nothing_else() -> None:
    for reason in HOSTILE:
        sheet = whole_note()
        sheet.credit_notes[-1].reason = reason
        assert pages(render_note(sheet.note_document(), SETTINGS)) >= 1
        assert pages(render(sheet.document("paid"), SETTINGS)) >= 1
