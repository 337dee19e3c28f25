"""Each invariant, broken on purpose by somebody who can do what our code cannot, is the one that shows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from models.database import Database
from models.invariants import Breach, check
from models.ops import AuditEntry
from models.organizations import Organization
from tasks.invariants import check as check_all
from tasks.invariants import check_hourly, park
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    catalog_rows,
    fresh_database,
    offline_context,
)

WALL = datetime(2026, 4, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[TestDatabase]:
    with fresh_database("invariants") as database:
        yield database


class World:
    """A faultless quarter of Acme, somebody who breaks it, and the check that looks for it."""

    def __init__(self, database: TestDatabase) -> None:
        self._database = database
        with Session(database.owner) as session, session.begin():
            self.quarter: Quarter = acme_with_a_quarter(session)
        self._auditor = Database(database.auditor_url)

    def close(self) -> None:
        self._auditor.close()

    def second_quarter(self, slug: str) -> UUID:
        """The same quarter for another organization."""
        with Session(self._database.owner) as session, session.begin():
            return acme_with_a_quarter(session, slug, rows=catalog_rows(session)).organization_id

    def change(self, statement: str) -> None:
        values = {"organization": self.quarter.organization_id} if ":organization" in statement else {}
        assert self._database.break_by(statement, **values) == 1, "the test means to change one row"

    def broken_by(self, statement: str) -> list[Breach]:
        self.change(statement)
        return self.breaches()

    def breaches(self, wall: datetime = WALL) -> list[Breach]:
        with self._auditor.system() as session:
            return check(session, wall)


@pytest.fixture
def world(server: TestDatabase) -> Iterator[World]:
    server.empty()
    made = World(server)
    yield made
    made.close()


def test_a_faultless_quarter_breaks_nothing(world: World) -> None:
    assert world.breaches() == []


_CREDIT = (
    "INSERT INTO tenant.credit_entries (organization_id, id, key, currency, amount_minor, reason, created_at"
)
_CASE = (
    "INSERT INTO tenant.dunning_cases (organization_id, id, invoice_id, subscription_id, grace_until_at, "
    "state, first_failed_at, retries_done, closed_at, next_attempt_at, decline_code) "
    "SELECT organization_id, gen_random_uuid(), id, subscription_id, '2026-02-07Z', "
)
_FIRST = " FROM tenant.invoices WHERE number = 'ACME-000001'"
_ZEROS = "subtotal_minor, discount_minor, tax_minor, credit_minor, total_minor, paid_minor, tax_inclusive"

# A note made at Stripe may have no lines; one that we made has its own.
_NOTE_ALONE = (
    "WITH numbered AS (INSERT INTO tenant.credit_note_sequences VALUES (:organization, 1)) "
    "INSERT INTO tenant.credit_notes (organization_id, id, invoice_id, key, state, number, currency, "
    "subtotal_minor, discount_minor, tax_minor, amount_minor, reduces_due_minor, refund_minor, credit_minor, "
    "out_of_band_minor, reason, created_at, issued_at) "
    "SELECT :organization, gen_random_uuid(), id, 'stripe:cn_1', 'issued', 'ACME-CN-000001', currency, "
    "{amount}, 0, 0, {amount}, {ways}, 'a complaint', now(), now() FROM tenant.invoices "
    "WHERE number = 'ACME-000001'"
)
_NOTE = (
    "WITH numbered AS (INSERT INTO tenant.credit_note_sequences VALUES (:organization, 1)), "
    "note AS (INSERT INTO tenant.credit_notes "
    "(organization_id, id, invoice_id, key, state, number, currency, "
    "subtotal_minor, discount_minor, tax_minor, amount_minor, reduces_due_minor, refund_minor, credit_minor, "
    "out_of_band_minor, reason, created_at, issued_at) "
    "SELECT :organization, gen_random_uuid(), id, 'asked:1', 'issued', '{number}', currency, "
    "{amount}, 0, 0, {amount}, 0, 0, 0, {amount}, 'a complaint', now(), now() FROM tenant.invoices "
    "WHERE number = 'ACME-000001' RETURNING *) "
    "INSERT INTO tenant.credit_note_lines (organization_id, id, credit_note_id, invoice_line_id, quantity, "
    "currency, amount_minor, discount_minor, tax_minor, total_minor) "
    "SELECT :organization, gen_random_uuid(), n.id, l.id, 0, l.currency, {lines_total}, 0, 0, {lines_total} "
    "FROM note n JOIN tenant.invoice_lines l ON l.invoice_id = n.invoice_id "
    "WHERE l.key = 'recurring:2026-02-01'"
)

# What is broken, how, and what the report must say of it. Each statement changes exactly one row.
FAULTS = {
    "I1 a record is rated by a line that is not there": (
        "UPDATE tenant.usage_records SET invoice_line_id = gen_random_uuid() WHERE event_id = 'e1'",
        "usage event e1 is rated by a line that does not exist",
    ),
    "I1 a record is rated by the line of another period": (
        "UPDATE tenant.usage_records SET occurred_at = '2026-02-15Z' WHERE event_id = 'e1'",
        "usage event e1 is rated by a line of another item, meter, group or period",
    ),
    "I1 a record waits although its period is closed": (
        "UPDATE tenant.usage_records SET state = 'waiting', invoice_line_id = NULL WHERE event_id = 'e4'",
        "usage event e4 waits for an invoice, but its period was closed without it",
    ),
    "I1 a record waits for nobody": (
        "UPDATE tenant.usage_records SET subscription_id = NULL, item_id = NULL WHERE event_id = 'e5'",
        "usage event e5 waits without a subscription to bill",
    ),
    "I1 a record has disappeared from its line": (
        "DELETE FROM tenant.usage_records WHERE event_id = 'e2'",
        "a usage line was rated from 3 events and has 2",
    ),
    "I2 the lines come to more than the subtotal": (
        "UPDATE tenant.invoice_lines SET amount_minor = amount_minor + 1 WHERE key = 'recurring:2026-02-01'",
        "invoice ACME-000001: lines come to 5061 - 0 + 0, the invoice says 5060 - 0 + 0 - 0 = 5060 USD",
    ),
    "I2 a line is in another currency": (
        "UPDATE tenant.invoice_lines SET currency = 'ZAR' WHERE key = 'recurring:2026-02-01'",
        "invoice ACME-000001",
    ),
    "I3 a month between two invoices is missing": (
        "UPDATE tenant.invoices SET period_start_at = '2026-02-03Z' WHERE number = 'ACME-000002'",
        "the period of invoice ACME-000002 starts at 2026-02-03",
    ),
    "I3 two invoices overlap": (
        "UPDATE tenant.invoices SET period_start_at = '2026-01-20Z' WHERE number = 'ACME-000002'",
        "but the one before it ends at 2026-02-01",
    ),
    "I3 usage is closed further than invoices reach": (
        "UPDATE tenant.product_subscriptions SET usage_closed_until_at = '2026-04-02Z'",
        "usage is closed until 2026-04-02",
    ),
    "I4 credit was used that nobody gave": (
        f"{_CREDIT}) VALUES (:organization, gen_random_uuid(), 'spent', 'USD', -500, 'spent', now())",
        "the credit balance is -500 USD: more was used than was given",
    ),
    "I4 the ledger knows of credit that the invoice did not use": (
        f"{_CREDIT}, invoice_id) "
        f"SELECT :organization, gen_random_uuid(), 'spent', 'USD', 500, 'spent', now(), id {_FIRST}",
        "invoice ACME-000001 used 0 of credit and its notes gave 0, the ledger says 500 in all",
    ),
    "I5 two rows mirror one Stripe invoice": (
        "INSERT INTO tenant.invoices (organization_id, id, subscription_id, kind, status, period_start_at, "
        f"period_end_at, currency, stripe_invoice_id, window_closes_at, created_at, {_ZEROS}) "
        "SELECT gen_random_uuid(), gen_random_uuid(), subscription_id, 'first', 'draft', period_start_at, "
        "period_end_at, currency, stripe_invoice_id, window_closes_at, created_at, 0, 0, 0, 0, 0, 0, false "
        f"{_FIRST}",
        "has 2 local rows",
    ),
    "I5 money in is recorded twice": (
        "UPDATE tenant.payments SET stripe_payment_intent_id = 'pi_ACME-000002' "
        "WHERE stripe_payment_intent_id = 'pi_ACME-000001'",
        "payment pi_ACME-000002 is recorded 2 times as money in",
    ),
    "I5 a final invoice that Stripe never had": (
        "UPDATE tenant.invoices SET stripe_invoice_id = NULL WHERE number = 'ACME-000003'",
        "invoice ACME-000003 was finalized and has no Stripe invoice",
    ),
    "I6 an invoice is called paid while its payment is unresolved": (
        "UPDATE tenant.payments SET status = 'unknown' WHERE stripe_payment_intent_id = 'pi_ACME-000001'",
        "invoice ACME-000001 (paid): total 5060, paid 5060, payments of 0",
    ),
    "I6 less was taken than the invoice calls paid": (
        "UPDATE tenant.payments SET amount_minor = 5059 WHERE stripe_payment_intent_id = 'pi_ACME-000001'",
        "invoice ACME-000001 (paid): total 5060, paid 5060, payments of 5059",
    ),
    "I6 money came in on a draft": (
        "UPDATE tenant.invoices SET status = 'draft', finalized_at = NULL WHERE number = 'ACME-000003'",
        "invoice ACME-000003 (draft): total 4900, paid 4900, payments of 4900",
    ),
    "I6 more was taken than the invoice says": (
        "UPDATE tenant.payments SET amount_minor = 5061 WHERE stripe_payment_intent_id = 'pi_ACME-000001'",
        "invoice ACME-000001 (paid): total 5060, paid 5060, payments of 5061",
    ),
    "I7 a card was tried after the invoice was voided": (
        "UPDATE tenant.invoices SET status = 'void', closed_at = '2026-02-01Z', paid_at = NULL "
        "WHERE number = 'ACME-000001'",
        "attempt 1 of invoice ACME-000001 was made at 2026-02-01 01:00:00+00, after it was closed",
    ),
    "I7 a card was tried after its pursuit stopped": (
        f"{_CASE} 'stopped', '2026-01-31Z', 0, '2026-02-01Z', NULL, NULL {_FIRST}",
        "after its pursuit stopped at 2026-02-01",
    ),
    "I7 a period is charged that begins after the end": (
        "UPDATE tenant.product_subscriptions SET ended_at = '2026-03-31Z'",
        "invoice ACME-000003 charges a period that starts at 2026-04-01",
    ),
    "I8 a word of a finalized invoice was changed": (
        "UPDATE tenant.invoice_lines SET description = 'Flow, cheaper' WHERE key = 'recurring:2026-02-01'",
        "invoice ACME-000001 is not what was finalized: its content hash differs",
    ),
    "I8 an explanation was changed": (
        "UPDATE tenant.invoice_lines SET explanation = explanation || jsonb_build_object('trial', true) "
        "WHERE key = 'usage:2026-01-01'",
        "invoice ACME-000001 is not what was finalized: its content hash differs",
    ),
    "I8 the sequence gave a number that no invoice has": (
        "UPDATE tenant.invoice_sequences SET last_number = 4",
        "3 invoice numbers from 1 to 3, the sequence stands at 4",
    ),
    "I2 a credit note's lines do not come to the note": (
        _NOTE.format(lines_total=90, amount=100, number="ACME-CN-000001"),
        "credit note ACME-CN-000001: lines come to 90 - 0 + 0 = 90, the note says 100 - 0 + 0 = 100 USD",
    ),
    "I2 notes credit more of a line than it came to": (
        _NOTE.format(lines_total=4_901, amount=4_901, number="ACME-CN-000001"),
        "notes credit 4901 of a line of invoice ACME-000001 that came to 4900",
    ),
    "I6 notes take more than the invoice": (
        _NOTE_ALONE.format(amount=5_061, ways="0, 0, 0, 5061"),
        "invoice ACME-000001 of 5060: notes of 5061",
    ),
    "I6 a note lowered what was due and the invoice does not know": (
        _NOTE_ALONE.format(amount=100, ways="100, 0, 0, 0"),
        "of which 100 before payment (the invoice says 0)",
    ),
    "I6 more was refunded than came in": (
        _NOTE_ALONE.format(amount=5_061, ways="0, 5061, 0, 0"),
        "and 5061 refunded of 5060",
    ),
    "I8 the sequence gave a number that no credit note has": (
        "INSERT INTO tenant.credit_note_sequences (organization_id, last_number) VALUES (:organization, 1)",
        "0 credit note numbers from  to , the sequence stands at 1",
    ),
    "I9 a job is past its lease": (
        "INSERT INTO ops.jobs (id, kind, unique_key, due_at, state, attempts, deferrals, lease_until_at) "
        "VALUES (gen_random_uuid(), 'invoicing.bill', 'b', now(), 'running', 1, 0, '2026-04-02 23:58:59Z')",
        "job invoicing.bill has been past its lease since 2026-04-02 23:58:59",
    ),
    "I9 a webhook lies unhandled": (
        "INSERT INTO ops.webhook_inbox (id, event_id, type, payload, source, customer_id, state, attempts, "
        "received_at) VALUES (gen_random_uuid(), 'evt_1', 'invoice.paid', '{}', 'delivered', 'cus_acme', "
        "'dead', 5, '2026-04-02 23:54:59Z')",
        "webhook evt_1 (invoice.paid) is dead since 2026-04-02 23:54:59",
    ),
    "I9 a usage batch lies unopened": (
        "UPDATE ops.usage_inbox SET state = 'queued'",
        "(7 events) is queued since 2026-04-01",
    ),
    "I10 usage is attributed to an item of somebody else": (
        "UPDATE tenant.usage_records SET item_id = gen_random_uuid() WHERE event_id = 'e5'",
        "usage event e5 names an item that its organization does not have",
    ),
    "I10 a credit names an invoice of somebody else": (
        f"{_CREDIT}, invoice_id) "
        "VALUES (:organization, gen_random_uuid(), 'given', 'USD', 500, 'given', now(), gen_random_uuid())",
        "a credit entry names an invoice that its organization does not have",
    ),
    "I12 a retry is set too early": (
        f"{_CASE} 'open', '2026-02-01Z', 0, NULL, '2026-02-01 23:59:59Z', NULL {_FIRST}",
        "retry 1 is set for 2026-02-01 23:59:59+00, earlier than the policy",
    ),
    "I12 a retry was made too early": (
        f"{_CASE} 'recovered', '2026-02-01Z', 1, '2026-02-03Z', NULL, NULL {_FIRST}",
        "retry 1 was made by 2026-02-01 01:00:00+00, earlier than the policy",
    ),
    "I12 a retry is planned for a stolen card": (
        f"{_CASE} 'open', '2026-02-01Z', 0, NULL, '2026-02-02Z', 'stolen_card' {_FIRST}",
        "a retry is planned although the bank said stolen_card",
    ),
    "I12 more retries than the policy has": (
        f"{_CASE} 'recovered', '2026-01-01Z', 4, '2026-02-03Z', NULL, NULL {_FIRST}",
        "4 retries where the policy allows 3",
    ),
}
# Whoever rewrites a finalized invoice or takes its lines apart also breaks its seal.
BREAKS_THE_SEAL = {"I2", "I3"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows_as_its_own_invariant_and_no_other(world: World, fault: str) -> None:
    statement, said = FAULTS[fault]
    invariant = fault.partition(" ")[0]

    breaches = world.broken_by(statement)

    found = [breach for breach in breaches if breach.invariant == invariant]
    assert any(said in breach.detail for breach in found), found
    others = {breach.invariant for breach in breaches} - {invariant}
    assert others <= ({"I8"} if invariant in BREAKS_THE_SEAL else set())
    assert {breach.organization_id for breach in found} <= {world.quarter.organization_id, None}


# What looks odd and is right: none of these is a breach.
QUIRKS = {
    "late usage waits for the next invoice": [
        "UPDATE tenant.usage_records SET late = true, occurred_at = '2026-03-30Z' WHERE event_id = 'e5'",
    ],
    "usage of the running period waits": [
        "UPDATE tenant.usage_records SET occurred_at = '2026-04-01Z' WHERE event_id = 'e5'",
    ],
    "Stripe finalized a cycle without its usage, which is on its way": [
        "INSERT INTO tenant.invoices (organization_id, id, subscription_id, kind, status, period_start_at, "
        f"period_end_at, currency, window_closes_at, created_at, {_ZEROS}) "
        "SELECT organization_id, gen_random_uuid(), subscription_id, 'adjustment', 'draft', period_start_at, "
        "period_end_at, currency, window_closes_at, created_at, 0, 0, 0, 0, 0, 0, false "
        "FROM tenant.invoices WHERE number = 'ACME-000003'",
        "UPDATE tenant.product_subscriptions SET usage_closed_until_at = '2026-03-01Z'",
    ],
    "an invoice was paid outside of Stripe": [
        "UPDATE tenant.payments SET status = 'failed' WHERE stripe_payment_intent_id = 'pi_ACME-000001'",
    ],
    "a customer paid on Stripe's page after the pursuit stopped": [
        f"{_CASE} 'stopped', '2026-01-31Z', 0, '2026-02-01Z', NULL, NULL {_FIRST}",
        "DELETE FROM ops.stripe_calls WHERE object_id LIKE '%_0'",
    ],
    "an attempt at the very instant of the end": [
        f"{_CASE} 'stopped', '2026-01-31Z', 0, '2026-02-01 01:00:00Z', NULL, NULL {_FIRST}",
    ],
    "a retry set for the earliest instant that the policy allows": [
        f"{_CASE} 'open', '2026-02-01Z', 0, NULL, '2026-02-02Z', 'insufficient_funds' {_FIRST}",
    ],
    "a retry made on the day": [
        f"{_CASE} 'recovered', '2026-01-31 01:00:00Z', 1, '2026-02-01Z', NULL, NULL {_FIRST}",
    ],
    "a job within its lease and the sweep's minute": [
        "INSERT INTO ops.jobs (id, kind, unique_key, due_at, state, attempts, deferrals, lease_until_at) "
        "VALUES (gen_random_uuid(), 'invoicing.bill', 'b', now(), 'running', 1, 0, '2026-04-02 23:59:01Z')",
    ],
    "a dead job, which the admin shows": [
        "INSERT INTO ops.jobs (id, kind, unique_key, due_at, state, attempts, deferrals) "
        "VALUES (gen_random_uuid(), 'invoicing.bill', 'b', now(), 'dead', 5, 0)",
    ],
    "a batch of this minute": [
        "UPDATE ops.usage_inbox SET state = 'queued', received_at = '2026-04-02 23:55:01Z'",
    ],
    "credit given and used": [
        f"{_CREDIT}) VALUES (:organization, gen_random_uuid(), 'given', 'USD', 500, 'given', now())",
        f"{_CREDIT}) VALUES (:organization, gen_random_uuid(), 'spent', 'USD', -500, 'spent', now())",
    ],
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_what_only_looks_wrong_is_no_breach(world: World, quirk: str) -> None:
    *earlier, last = QUIRKS[quirk]
    for statement in earlier:
        world.change(statement)

    assert world.broken_by(last) == []


def test_a_breach_parks_its_organization_and_nobody_else(server: TestDatabase, world: World) -> None:
    globex = world.second_quarter("globex")
    world.change(
        "UPDATE tenant.payments SET amount_minor = 5061 WHERE stripe_payment_intent_id = 'pi_ACME-000001'"
    )

    with offline_context(server, wall=WALL) as context:
        (parked,) = park(context, check_all(context))

    assert parked == world.quarter.organization_id
    with Session(server.owner) as session:
        acme = session.get_one(Organization, parked)
        assert (acme.parked_at, session.get_one(Organization, globex).parked_at) == (WALL, None)
        assert acme.parked_reason is not None
        assert acme.parked_reason.startswith("I6: invoice ACME-000001 (paid): total 5060")
        (entry,) = session.query(AuditEntry).all()
        assert (entry.actor, entry.action, entry.object_id) == ("invariants", "park", str(parked))


def test_who_is_parked_stays_parked_for_the_first_reason(server: TestDatabase, world: World) -> None:
    world.change(
        "UPDATE tenant.payments SET amount_minor = 5061 WHERE stripe_payment_intent_id = 'pi_ACME-000001'"
    )
    with offline_context(server, wall=WALL) as context:
        park(context, check_all(context))
        world.change("DELETE FROM tenant.usage_records WHERE event_id = 'e2'")

        assert park(context, check_all(context)) == []

    with Session(server.owner) as session:
        assert str(session.get_one(Organization, world.quarter.organization_id).parked_reason).startswith(
            "I6"
        )


def test_work_that_is_behind_parks_nobody(server: TestDatabase, world: World) -> None:
    world.change("UPDATE ops.usage_inbox SET state = 'dead'")

    with offline_context(server, wall=WALL) as context:
        breaches = check_all(context)
        assert [breach.invariant for breach in breaches] == ["I9"]
        assert park(context, breaches) == []


def test_the_check_runs_once_an_hour_and_alerts(
    server: TestDatabase, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.change(
        "UPDATE tenant.payments SET amount_minor = 5061 WHERE stripe_payment_intent_id = 'pi_ACME-000001'"
    )
    for minutes, alerts in [(0, 2), (5, 0), (55, 0), (60, 1)]:
        caplog.clear()
        with offline_context(server, wall=WALL + timedelta(minutes=minutes)) as context:
            check_hourly(context)
        assert len([record for record in caplog.records if "ALERT" in record.message]) == alerts, minutes


def test_the_auditor_cannot_write(server: TestDatabase, world: World) -> None:
    with (
        offline_context(server, wall=WALL) as context,
        pytest.raises(InternalError, match="read-only"),
        context.auditor.system() as session,
    ):
        session.execute(text("UPDATE tenant.payments SET amount_minor = 0"))
