"""Documents of invoices that stand in the database."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from billing.errors import NotFound
from models.invoices import Invoice
from tasks.context import Context
from tasks.documents import invoice_pdf, write_invoice_pdfs
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    catalog,
    fresh_database,
    offline_context,
)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    with fresh_database("documents") as made:
        yield made


@pytest.fixture
def context(database: TestDatabase) -> Iterator[Context]:
    database.empty()
    with offline_context(database, wall=datetime(2026, 4, 3, tzinfo=UTC)) as made:
        yield made


@pytest.fixture
def quarters(context: Context, database: TestDatabase) -> list[Quarter]:
    with Session(database.owner) as session, session.begin():
        rows = catalog(session)
        return [acme_with_a_quarter(session, slug, rows) for slug in ("acme", "globex")]


def invoices_of(database: TestDatabase, organization_id: UUID) -> list[Invoice]:
    with Session(database.owner) as session:
        found = session.execute(
            select(Invoice).where(Invoice.organization_id == organization_id, Invoice.number.is_not(None))
        ).scalars()
        return list(found)


def test_an_invoice_is_printed_for_its_own_organization_only(
    context: Context, database: TestDatabase, quarters: list[Quarter]
) -> None:
    acme, globex = (quarter.organization_id for quarter in quarters)
    invoice = invoices_of(database, acme)[0]

    pdf = invoice_pdf(context, acme, invoice.id)

    assert f"/Title(Invoice {invoice.number})".encode() in pdf
    for reader, wanted in ((globex, invoice.id), (acme, uuid4())):
        with pytest.raises(NotFound, match="no such invoice"):
            invoice_pdf(context, reader, wanted)


def test_every_finalized_invoice_is_written_under_its_organization(
    context: Context, database: TestDatabase, quarters: list[Quarter], tmp_path: Path
) -> None:
    written = write_invoice_pdfs(context, tmp_path)

    expected = {
        tmp_path / slug / f"{invoice.number}.pdf"
        for quarter, slug in zip(quarters, ("acme", "globex"), strict=True)
        for invoice in invoices_of(database, quarter.organization_id)
    }
    assert expected and set(written) == expected
    assert all(path.read_bytes().startswith(b"%PDF-") for path in written)

    before = {path: path.read_bytes() for path in written}
    assert write_invoice_pdfs(context, tmp_path) == written
    assert {path: path.read_bytes() for path in written} == before
