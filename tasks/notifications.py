"""What customers and products are told: a mail and an outbound webhook, written with their cause."""

from collections.abc import Iterator, Mapping
from typing import Any

from models.base import new_id
from models.invoices import Notification
from tasks.context import TenantUnit

_SUBJECTS = {
    "invoice.finalized": "Your invoice {number}",
    "invoice.paid": "Payment received for invoice {number}",
    "invoice.parked": "An invoice needs a person's review",
    "dunning.payment_failed": "We could not collect your payment for invoice {number}",
    "dunning.retry_planned": "We could not collect your payment for invoice {number}",
    "dunning.card_requested": "Your payment for invoice {number} needs you",
    "dunning.retries_exhausted": "We could not collect invoice {number} after several attempts",
    "dunning.suspended": "Your access is suspended until invoice {number} is paid",
    "dunning.recovered": "Thank you: your payment for invoice {number} has arrived",
    "dunning.stopped": "We have stopped collecting invoice {number}",
    "subscription.paused": "Your subscription is paused",
    "trial.ending": "Your trial ends soon",
    "access.changed": "Your access has changed",
    "payment.refunded": "We have refunded your payment",
    "credit_note.issued": "Your credit note {number}",
    "card.expiring": "Your card ending in {last_four} expires soon",
    "refund.failed": "A refund could not be made",
    "dispute.opened": "A payment is disputed",
    "dispute.closed": "A dispute has ended",
}
# Only staff or products need to know of these.
_INTERNAL = frozenset(
    {"access.changed", "invoice.parked", "refund.failed", "dispute.opened", "dispute.closed"}
)
MAILED = frozenset(_SUBJECTS) - _INTERNAL


def write(unit: TenantUnit, kind: str, key: str, content: Mapping[str, Any], *, by_mail: bool = True) -> None:
    """Store the mail and the webhook of one happening; the key keeps a repeat from telling it twice."""
    for values in rows(unit, kind, key, content, by_mail=by_mail):
        row = Notification(**values)
        unit.session.add(row)
        if row.state == "queued":
            unit.session.flush()
            unit.enqueue_apart("mails.send", str(row.id), subject_id=row.id)


def rows(
    unit: TenantUnit, kind: str, key: str, content: Mapping[str, Any], *, by_mail: bool = True
) -> Iterator[dict[str, Any]]:
    """The rows of one happening. Each that is `queued` needs a job that sends it."""
    subject = _SUBJECTS[kind].format_map(_Blank(content))
    recipients = {"webhook": "products"}
    if by_mail and kind in MAILED:
        recipients["mail"] = unit.organization.email
    for channel, recipient in recipients.items():
        is_sent = channel == "mail" and unit.settings.smtp is not None
        yield {
            "organization_id": unit.organization.id,
            "id": new_id(),
            "key": f"{kind}:{key}:{channel}",
            "channel": channel,
            "kind": kind,
            "recipient": recipient,
            "subject": subject,
            "content": dict(content),
            "state": "queued" if is_sent else "kept",
            "created_at": unit.now,
        }


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""
