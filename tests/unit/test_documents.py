"""Invoices as PDF files."""

import re
from typing import Any

import pytest

from models.organizations import Organization
from tasks.documents import render
from tasks.settings import Settings
from tests.unit import invoice_samples as samples
from tests.unit.invoice_samples import Sheet

SETTINGS = Settings(
    database_url="",
    auditor_url="",
    redis_url="",
    stripe_api_key="",
    stripe_webhook_secrets=(),
    secret_key="",
    key_pepper="",
    seller_name="Rozitech",
    seller_address="12 Loop Street\nCape Town 8001",
)


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type */Page\b", pdf))


def title(pdf: bytes) -> bytes:
    found = re.search(rb"/Title\(([^)]*)\)", pdf)
    assert found is not None
    return found[1]


def test_the_same_invoice_is_the_same_file() -> None:
    first = render(samples.zar_bundle().document("open"), SETTINGS)
    again = render(samples.zar_bundle().document("open"), SETTINGS)

    assert first.startswith(b"%PDF-")
    assert first == again
    assert first != render(samples.zar_bundle().document("paid"), SETTINGS)


def test_the_file_carries_the_invoice_number_and_its_own_date() -> None:
    pdf = render(samples.one_plan().document("paid"), SETTINGS)

    assert title(pdf) == b"Invoice ACME-000042"
    assert re.search(rb"/CreationDate *\(D:20260401111500", pdf)


def test_usage_is_shown_in_detail_on_a_page_of_its_own() -> None:
    assert pages(render(samples.many_lines(1).document("open"), SETTINGS)) == 1
    assert pages(render(samples.one_plan().document("open"), SETTINGS)) == 2


def test_two_hundred_lines_run_over_pages() -> None:
    assert pages(render(samples.many_lines(200).document("open"), SETTINGS)) == 10


@pytest.mark.parametrize("status", ["draft", "open", "paid", "void", "uncollectible"])
def test_every_status_has_a_document(status: str) -> None:
    assert pages(render(samples.zar_bundle().document(status), SETTINGS)) == 2


HOSTILE = [
    '#panic() #import "x.typ" *bold* _it_ $x^2$ <label> @ref `raw` \\ // /* [',
    "W" * 300,
    "株式会社 🤖 العربية Жуков Ångström \u202egnp.exe",
    "\u0000\u0007\ttabs\nand lines",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_people_typed_is_text_and_nothing_else(text: str) -> None:
    sheet = Sheet(organization=Organization(id=samples.ACME.id, slug="x", name=text, email=text))
    sheet.organization.address = {"line1": text, "city": text, "country": text}
    sheet.charge(samples.BUILDEASY, text, 99_999_999_999_999, quantity=7)
    sheet.attempt("failed", samples.FINALIZED, text)

    assert pages(render(sheet.document("open"), SETTINGS)) >= 1


@pytest.mark.parametrize("color", ["", "red", "#12345", "#GGGGGG"])
def test_a_product_without_a_proper_color_prints(color: str) -> None:
    changed: dict[str, Any] = {"id": samples.TEAMSPACE.id, "name": "TeamSpace", "color": color}
    sheet = Sheet()
    sheet.charge(type(samples.TEAMSPACE)(**changed), "TeamSpace Starter", 2_500)

    assert pages(render(sheet.document("open"), SETTINGS)) == 1
