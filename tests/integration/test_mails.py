"""Mails through a real mail server: once each, put off while it is away, failed when it refuses for good."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models.invoices import Invoice, Notification
from models.ops import Job
from tasks import composition, notifications, queue
from tasks.context import Context
from tasks.invoice_rows import invoice_content
from tasks.settings import MailServer as ServerSettings
from tests.integration.factories import (
    Quarter,
    TestDatabase,
    acme_with_a_quarter,
    fresh_database,
    offline_context,
)
from tests.integration.mail_server import MailServer, mail_server

NOW = datetime(2026, 4, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[TestDatabase]:
    composition.load_use_cases()
    with fresh_database("mails") as made:
        yield made


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as made:
        yield made


@pytest.fixture
def context(database: TestDatabase, server: MailServer) -> Iterator[Context]:
    database.empty()
    smtp = ServerSettings(host="127.0.0.1", port=server.port, security="none", user="ada", password="p:w")
    with offline_context(database, wall=NOW) as made:
        settings = replace(made.settings, smtp=smtp, mail_from="Rozitech <billing@rozitech.example>")
        yield replace(made, settings=settings)


@pytest.fixture
def acme(context: Context, database: TestDatabase) -> Quarter:
    with Session(database.owner) as session, session.begin():
        return acme_with_a_quarter(session)


def told(context: Context, quarter: Quarter, kind: str, **content: object) -> UUID:
    """Write one notification of Acme's first invoice; returns its mail's job."""
    with context.tenant(quarter.organization_id) as unit:
        invoice = unit.session.get_one(Invoice, (quarter.organization_id, quarter.invoice_ids[0]))
        notifications.write(unit, kind, "k", {**invoice_content(invoice), **content})
    with context.database.system() as session:
        return session.execute(select(Job.id).where(Job.kind == "mails.send")).scalar_one()


def mail_row(context: Context, quarter: Quarter) -> Notification:
    with context.tenant(quarter.organization_id) as unit:
        return unit.session.execute(select(Notification).where(Notification.channel == "mail")).scalar_one()


def test_an_invoice_is_mailed_with_its_document(context: Context, server: MailServer, acme: Quarter) -> None:
    job = told(context, acme, "invoice.finalized")

    assert queue.run_job(context, job) == "done"
    assert queue.run_job(context, job) == "not mine"

    [mail] = server.mails
    row = mail_row(context, acme)
    assert (row.state, row.sent_at) == ("sent", NOW)
    assert mail["Message-ID"] == f"<{row.id}@rozitech.example>"
    assert (mail["From"], mail["To"]) == ("Rozitech <billing@rozitech.example>", row.recipient)
    assert mail["Subject"] == "Your invoice ACME-000001"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None and html is not None
    assert "Your invoice ACME-000001 is attached." in text.get_content()
    assert "Amount due  $0.00" in text.get_content()
    assert "ACME-000001" in html.get_content()
    [attached] = mail.iter_attachments()
    assert attached.get_filename() == "ACME-000001.pdf"
    assert attached.get_content().startswith(b"%PDF-")
    assert server.logins == ["AGFkYQBwOnc="]  # \0ada\0p:w


def test_a_server_that_is_busy_is_asked_again_and_the_repeat_is_the_same_mail(
    context: Context, server: MailServer, acme: Quarter, database: TestDatabase
) -> None:
    server.data_says = "451 try later"
    job = told(context, acme, "invoice.paid")

    assert queue.run_job(context, job) == "deferred"
    assert mail_row(context, acme).state == "queued"
    with context.database.system() as session:
        waiting = session.get_one(Job, job)
        assert (waiting.attempts, waiting.last_error) == (0, "the mail server is away: SMTPDataError 451")
    server.data_says = None
    for _ in range(2):  # the second as if the process had died before it could note the first
        database.break_by("UPDATE ops.jobs SET state = 'queued', not_before_at = now()")
        database.break_by("UPDATE tenant.notifications SET state = 'queued' WHERE channel = 'mail'")
        assert queue.run_job(context, job) == "done"

    first, second = server.mails
    assert first["Message-ID"] == second["Message-ID"]


def test_no_server_at_all_puts_the_mail_off(context: Context, acme: Quarter) -> None:
    smtp = ServerSettings(host="127.0.0.1", port=9, security="none")
    away = replace(context, settings=replace(context.settings, smtp=smtp))

    assert queue.run_job(away, told(away, acme, "invoice.paid")) == "deferred"
    assert mail_row(context, acme).state == "queued"


def test_a_mail_that_is_refused_for_good_says_why(
    context: Context, server: MailServer, acme: Quarter
) -> None:
    server.recipient_says = "550 no such mailbox"
    job = told(context, acme, "invoice.paid")

    assert queue.run_job(context, job) == "done"

    row = mail_row(context, acme)
    assert (row.state, row.error, row.sent_at) == ("failed", "550 no such mailbox", None)
    assert server.mails == []


def test_what_people_typed_is_text_in_the_mail(
    context: Context, server: MailServer, acme: Quarter, database: TestDatabase
) -> None:
    database.break_by("UPDATE catalog.organizations SET name = '<b>Acme</b> & Co'")
    detail = "<script>alert(1)</script>"
    content = {"detail": detail, "grace_until": NOW.isoformat()}

    queue.run_job(context, told(context, acme, "dunning.stopped", **content))

    html = server.mails[0].get_body(("html",))
    assert html is not None
    shown = html.get_content()
    assert "<script>" not in shown and "<b>Acme" not in shown
    assert "&lt;b&gt;Acme&lt;/b&gt; &amp; Co" in shown


@pytest.mark.parametrize("kind", sorted(notifications.MAILED))
def test_every_kind_of_mail_can_be_written(
    context: Context, server: MailServer, acme: Quarter, kind: str
) -> None:
    content = {
        "detail": "attempt 1: your card was declined",
        "grace_until": NOW.isoformat(),
        "trial_end": NOW.isoformat(),
        "expires_at": NOW.isoformat(),
        "last_four": "4242",
        "amount_minor": 10_00,
        "refund_minor": 10_00,
        "reason": "a complaint",
        "has_card": False,
    }

    assert queue.run_job(context, told(context, acme, kind, **content)) == "done"

    [mail] = server.mails
    text = mail.get_body(("plain",))
    assert text is not None and text.get_content().startswith("Hello Acme")


def test_without_a_server_mails_are_kept(context: Context, acme: Quarter) -> None:
    silent = replace(context, settings=replace(context.settings, smtp=None))
    with silent.tenant(acme.organization_id) as unit:
        notifications.write(unit, "subscription.paused", "k", {})

    assert mail_row(silent, acme).state == "kept"
    with silent.database.system() as session:
        assert session.execute(select(Job).where(Job.kind == "mails.send")).all() == []
