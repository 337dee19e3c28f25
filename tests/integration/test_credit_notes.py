"""What the database and the door refuse of credit notes."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.integration.web_world import WebWorld, web_world

_NOTE = (
    "INSERT INTO tenant.credit_notes (organization_id, id, invoice_id, key, state, number, currency, "
    "subtotal_minor, discount_minor, tax_minor, amount_minor, reduces_due_minor, refund_minor, credit_minor, "
    "out_of_band_minor, reason, created_at, issued_at) "
    "SELECT organization_id, '01900000-0000-7000-8000-00000000000a', id, 'asked:1', 'pending', NULL, "
    "currency, 100, 0, 0, 100, 0, 0, 0, 100, 'a complaint', now(), NULL FROM tenant.invoices WHERE id = :id"
)
_LINE = (
    "INSERT INTO tenant.credit_note_lines (organization_id, id, credit_note_id, invoice_line_id, quantity, "
    "currency, amount_minor, discount_minor, tax_minor, total_minor) "
    "SELECT n.organization_id, gen_random_uuid(), n.id, l.id, 0, 'USD', 100, 0, 0, 100 "
    "FROM tenant.credit_notes n JOIN tenant.invoice_lines l ON l.invoice_id = n.invoice_id LIMIT 1"
)


@pytest.fixture(scope="module")
def world() -> Iterator[WebWorld]:
    with web_world("credit_notes") as made:
        made.sql(_NOTE, id=made.acme.invoice_ids[0])
        made.sql(_LINE)
        made.sql("UPDATE tenant.credit_notes SET state = 'issued', number = 'A-CN-000001', issued_at = now()")
        yield made


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenant.credit_notes SET amount_minor = 99, out_of_band_minor = 99",
        "UPDATE tenant.credit_notes SET number = 'A-CN-000002'",
        "UPDATE tenant.credit_notes SET reason = 'another'",
        "UPDATE tenant.credit_notes SET issued_at = NULL, number = NULL, state = 'pending'",
        "UPDATE tenant.credit_note_lines SET total_minor = 99",
        "DELETE FROM tenant.credit_note_lines",
        _LINE,
    ],
)
def test_an_issued_note_never_changes(world: WebWorld, statement: str) -> None:
    with pytest.raises(IntegrityError, match=r"is issued and cannot change|belongs to an issued credit note"):
        world.sql(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenant.invoices SET reduced_minor = 1 WHERE number = 'ACME-000001'",  # paid in full
        "UPDATE tenant.invoices SET reduced_minor = -1 WHERE number = 'ACME-000001'",
    ],
)
def test_no_more_is_taken_off_than_is_due(world: WebWorld, statement: str) -> None:
    with pytest.raises(IntegrityError, match="ck_invoices_due"):
        world.sql(statement)


_LINE_ID = "01900000-0000-7000-8000-000000000000"
BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "no reason": ({}, "reason"),
    "a reason of nothing": ({"reason": "  "}, "reason"),
    "lines and an amount": (
        {"reason": "r", "amount_minor": 1, "lines": [{"line": _LINE_ID}]},
        "amount_minor",
    ),
    "no amount": ({"reason": "r", "amount_minor": 0}, "amount_minor"),
    "an amount with a point": ({"reason": "r", "amount_minor": 1.5}, "amount_minor"),
    "a line twice": ({"reason": "r", "lines": [{"line": _LINE_ID}, {"line": _LINE_ID}]}, "lines[1].line"),
    "a line's amount and quantity": (
        {"reason": "r", "lines": [{"line": _LINE_ID, "amount_minor": 1, "quantity": "1"}]},
        "lines[0]",
    ),
    "a line that is no id": ({"reason": "r", "lines": [{"line": "first"}]}, "lines[0].line"),
    "lines, but none": ({"reason": "r", "settlement": "credit", "lines": []}, "lines"),
    "a quantity beyond reading": (
        {"reason": "r", "lines": [{"line": _LINE_ID, "quantity": "9" * 5_000}]},
        "lines[0].quantity",
    ),
    "a settlement that is none": ({"reason": "r", "settlement": "cash"}, "settlement"),
    "a field that is not known": ({"reason": "r", "refund": True}, "refund"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body_is_refused_by_its_field(world: WebWorld, case: str) -> None:
    body, field = BODIES[case]
    before = world.rows()
    path = f"/api/billing/invoices/{world.acme.invoice_ids[0]}/credit_notes/"

    answer: Any = world.call("POST", path, "admin", json=body)

    assert answer.status_code == 422, answer.data
    assert [error["field"] for error in answer.json["errors"]] == [field]
    assert world.rows() == before


def test_a_note_is_shown_to_its_own_organization(world: WebWorld) -> None:
    path = f"/api/billing/invoices/{world.acme.invoice_ids[0]}/credit_notes/"
    listed: Any = world.call("GET", path, "acme").json
    [note] = listed["items"]
    shown: Any = world.call("GET", f"/api/billing/credit_notes/{note['id']}/", "acme").json
    document = world.call("GET", f"/api/billing/credit_notes/{note['id']}/pdf/", "acme")

    assert (shown["number"], shown["invoice_number"], shown["out_of_band_minor"]) == (
        "A-CN-000001",
        "ACME-000001",
        1_00,
    )
    assert [line["total_minor"] for line in shown["lines"]] == [1_00]
    assert document.data.startswith(b"%PDF-")
