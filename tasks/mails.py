"""Mails: one job per mail, handed to the mail server until it takes it or refuses it for good.

At least once: a process that dies between the server's "250" and our commit sends the mail again, under
the same Message-ID, so that it is the same mail. No lock is held meanwhile; the organization's clock does
not wait for it.
"""

import logging
import smtplib
import ssl
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from uuid import UUID

from models.invoices import Notification
from models.work import ClaimedJob
from tasks import documents, mail_text
from tasks.context import Context
from tasks.mail_text import Letter
from tasks.queue import TryLater, job
from tasks.settings import MailServer

log = logging.getLogger("dunlin.mails")

_TIMEOUT_S = 10
_LONGEST_WAIT = timedelta(hours=1)


class MailRefused(Exception):
    """The mail server will never take this mail."""


@job("mails.send", queue="ops", locked=False)
def send(context: Context, claimed: ClaimedJob) -> None:
    """Hand over one mail. Raises TryLater while the server is away or busy, with a growing delay."""
    organization_id = claimed.organization
    with context.tenant(organization_id) as unit:
        row = unit.session.get_one(Notification, (organization_id, claimed.subject))
    server = context.settings.smtp
    if row.state != "queued":
        return
    if server is None:
        _settle(context, row, "kept", None)
        return
    try:
        deliver(server, compose(context, row))
    except MailRefused as refusal:
        log.error("mail %s of %s is refused: %s", row.id, row.kind, refusal)
        _settle(context, row, "failed", str(refusal))
    except (OSError, smtplib.SMTPException) as away:
        delay = min(_LONGEST_WAIT, timedelta(seconds=30) * 2 ** min(claimed.deferrals, 7))
        raise TryLater(f"the mail server is away: {_words(away)}", delay) from None
    else:
        _settle(context, row, "sent", None)


def _settle(context: Context, sent: Notification, state: str, error: str | None) -> None:
    with context.tenant(sent.organization_id) as unit:
        row = unit.session.get_one(Notification, (sent.organization_id, sent.id))
        row.state, row.error = state, error
        row.sent_at = unit.wall if state == "sent" else None


def letter(context: Context, organization_id: UUID, row: Notification) -> Letter:
    """What a mail says, as text and as HTML."""
    with context.tenant(organization_id) as unit:
        return mail_text.letter(unit, row)


def compose(context: Context, row: Notification) -> EmailMessage:
    """The mail of a notification; composing it again gives the same mail."""
    written = letter(context, row.organization_id, row)
    message = EmailMessage()
    message["From"] = context.settings.mail_from
    message["To"] = row.recipient
    message["Subject"] = _one_line(row.subject)
    message["Date"] = format_datetime(row.created_at)
    domain = parseaddr(context.settings.mail_from)[1].rpartition("@")[2] or "localhost"
    message["Message-ID"] = f"<{row.id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(written.text)
    message.add_alternative(written.html, subtype="html")
    for name, pdf in _attached(context, row):
        message.add_attachment(pdf, maintype="application", subtype="pdf", filename=f"{name}.pdf")
    return message


def _attached(context: Context, row: Notification) -> list[tuple[str, bytes]]:
    number = str(row.content.get("number"))
    if row.kind == "invoice.finalized":
        invoice_id = UUID(row.content["invoice_id"])
        return [(number, documents.invoice_pdf(context, row.organization_id, invoice_id))]
    if row.kind == "credit_note.issued" and "credit_note_id" in row.content:
        note_id = UUID(row.content["credit_note_id"])
        return [(number, documents.credit_note_pdf(context, row.organization_id, note_id))]
    return []


def deliver(server: MailServer, message: EmailMessage) -> None:
    """Hand a mail over. Raises MailRefused for good; OSError, SMTPException when it may go later."""
    try:
        with _connected(server) as smtp:
            if server.user is not None:
                smtp.login(server.user, server.password or "")
            smtp.send_message(message)
    except smtplib.SMTPRecipientsRefused as refused:
        _raise_if_final(*next(iter(refused.recipients.values())))
        raise
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as refused:
        _raise_if_final(refused.smtp_code, refused.smtp_error)
        raise


def _raise_if_final(code: int, said: bytes | str) -> None:
    """5xx is for ever, 4xx may pass (RFC 5321, 4.2.1); a refused login is a setting to mend, not the mail."""
    words = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    if 500 <= code < 600:
        raise MailRefused(f"{code} {words}") from None


def _connected(server: MailServer) -> smtplib.SMTP:
    if server.security == "tls":
        tls = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, timeout=_TIMEOUT_S, context=tls)
    smtp = smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT_S)
    if server.security == "starttls":
        try:
            smtp.starttls(context=ssl.create_default_context())
        except BaseException:
            smtp.close()
            raise
    return smtp


def _words(error: Exception) -> str:
    """The kind of failure and its code: a server's words may repeat what it was told."""
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code}" if code is not None else type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(text.split())
