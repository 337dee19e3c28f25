"""What a mail says: its sentences, its figures, its one link; as text and as HTML.

Everything is read from the notification and its invoice; whatever people typed is escaped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from uuid import UUID

from billing.money import Money, format_money
from models.invoices import Invoice, Notification
from tasks import payments
from tasks.context import TenantUnit
from tasks.document_text import date_text

_TEMPLATE = Path(__file__).parent / "mail_templates" / "mail.html"
_NO_BREAK = "\u00a0"


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail's two forms."""

    text: str
    html: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is said, before it has a form; `link` is (what to do, where)."""

    sentences: Sequence[str]
    facts: Sequence[tuple[str, str]] = field(default_factory=tuple)
    link: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Occasion:
    """What a mail is about: its notification's content, and the invoice that it names."""

    content: dict[str, Any]
    invoice: Invoice | None
    has_card: bool

    def money(self, name: str) -> str:
        return format_money(Money(int(self.content[name]), str(self.content["currency"])))

    def moment(self, name: str) -> str:
        at = datetime.fromisoformat(self.content[name]).astimezone(UTC)
        return f"{self.day(name)} at {at:%H:%M} UTC"

    def day(self, name: str) -> str:
        return date_text(datetime.fromisoformat(self.content[name])).replace(_NO_BREAK, " ")


def letter(unit: TenantUnit, row: Notification) -> Letter:
    """The mail of a notification, in the organization's transaction."""
    invoice = None
    if named := row.content.get("invoice_id"):
        invoice = unit.session.get(Invoice, (unit.organization.id, UUID(named)))
    said = _SAID.get(row.kind, _plain)(_Occasion(row.content, invoice, payments.has_card(unit)))
    hello = f"Hello {unit.organization.name},"
    address = unit.settings.seller_address.replace("\\n", "\n")
    footer = ", ".join([unit.settings.seller_name, *filter(None, map(str.strip, address.splitlines()))])
    return Letter(_as_text(hello, said, footer), _as_html(row.subject, hello, said, footer))


def _finalized(about: _Occasion) -> Said:
    number, due = about.content["number"], about.content["total_minor"]
    sentences = [f"Your invoice {number} is attached."]
    if not due:
        sentences.append("There is nothing to pay.")
    elif about.invoice is not None and about.invoice.status == "paid":
        sentences.append("It is paid. You need not do anything.")
    elif about.has_card:
        sentences.append(f"We collect {about.money('total_minor')} from your card. You need not do anything.")
    else:
        sentences.append(f"Please pay {about.money('total_minor')}: there is no card that we could charge.")
    return Said(sentences=sentences, facts=_figures(about), link=_page(about) if due else None)


def _paid(about: _Occasion) -> Said:
    came = format_money(Money(about.invoice.paid_minor, about.invoice.currency)) if about.invoice else None
    what = f"your payment of {came}" if came else "your payment"
    number = about.content["number"]
    return Said(
        sentences=[f"Thank you: we have received {what} for invoice {number}."], facts=_figures(about)
    )


def _failed(about: _Occasion) -> Said:
    return Said(
        sentences=[
            *_refusal(about),
            f"Your access stays as it is until {about.day('grace_until')}.",
            "You can pay at once, also with another card:",
        ],
        facts=_figures(about),
        link=_page(about),
    )


def _planned(about: _Occasion) -> Said:
    retry = about.content.get("retry_at")
    when = f"on {about.moment('retry_at')}" if retry else f"({about.content['detail']})"
    return Said(
        sentences=[
            *_refusal(about),
            f"We will try your card again {when}. Your access stays as it is until "
            f"{about.day('grace_until')}.",
            "If you want to pay before that, or with another card:",
        ],
        facts=_figures(about),
        link=_page(about),
    )


def _refusal(about: _Occasion) -> list[str]:
    said = str(about.content.get("bank_said") or "").strip().rstrip(".")
    return [f"We could not collect your payment{f': {said}' if said else ''}."]


def _card_requested(about: _Occasion) -> Said:
    if about.content.get("is_unconfirmed"):
        refusal = "Your bank wants you to confirm this payment before it lets us have it."
        please = "Please confirm it on the invoice's page, or pay there with another card."
    else:
        refusal = "Your bank has refused your card, and asks us not to try it again."
        please = "Please pay with another card."
    return Said(
        sentences=[refusal, f"{please} Your access stays as it is until {about.day('grace_until')}."],
        facts=_figures(about),
        link=_page(about),
    )


def _exhausted(about: _Occasion) -> Said:
    return Said(
        sentences=[
            "We could not collect your payment after several attempts, and will not try this card again.",
            f"Please pay until {about.day('grace_until')}; after that your access is suspended.",
        ],
        facts=_figures(about),
        link=_page(about),
    )


def _suspended(about: _Occasion) -> Said:
    return Said(
        sentences=["Your access is suspended until your invoice is paid. It comes back with the payment."],
        facts=_figures(about),
        link=_page(about),
    )


def _recovered(about: _Occasion) -> Said:
    came = format_money(Money(about.invoice.paid_minor, about.invoice.currency)) if about.invoice else ""
    what = f"your payment of {came}" if came else "your payment"
    return Said(
        sentences=[f"Thank you: we have received {what}. This invoice holds up your access no longer."],
        facts=_figures(about),
    )


def _stopped(about: _Occasion) -> Said:
    status = about.invoice.status if about.invoice else ""
    if status == "void":
        sentences = ["This invoice is void: you need not pay it."]
    elif status == "uncollectible":
        sentences = ["We no longer charge your card for this invoice. It is still owed, and can be paid:"]
    else:
        sentences = [f"We have stopped collecting this invoice: {about.content['detail']}."]
    return Said(sentences=sentences, facts=_figures(about), link=_page(about))


def _refunded(about: _Occasion) -> Said:
    return Said(
        sentences=[
            f"We have refunded {about.money('amount_minor')} to your card.",
            "Your bank may need some days to show it.",
        ]
    )


def _credited(about: _Occasion) -> Said:
    content = about.content
    ways = (
        ("Taken off what is due", "reduces_due_minor"),
        ("Refunded to your card", "refund_minor"),
        ("Added to your credit", "credit_minor"),
        ("Settled without a card", "out_of_band_minor"),
    )
    facts = [(name, about.money(minor)) for name, minor in ways if content.get(minor)]
    if about.invoice is not None:
        facts.insert(0, ("Invoice", str(about.invoice.number)))
    if reason := content.get("reason"):
        facts.append(("Reason", str(reason)))
    credited = about.money("amount_minor")
    return Said(sentences=[f"Your credit note {content['number']} for {credited} is attached."], facts=facts)


def _trial(about: _Occasion) -> Said:
    sentences = [
        f"Your trial ends on {about.day('trial_end')}. Your subscription then goes on, and its first invoice "
        "is due."
    ]
    if not about.content.get("has_card"):
        sentences.append("Please add a card before then: there is none that we could charge.")
    return Said(sentences=sentences)


def _expiring(about: _Occasion) -> Said:
    return Said(
        sentences=[
            f"Your card ending in {about.content['last_four']} is valid until {about.day('expires_at')}. "
            "Please add another before then, so that your next invoice can be collected."
        ]
    )


def _plain(about: _Occasion) -> Said:
    detail = about.content.get("detail")
    return Said(sentences=[str(detail)] if detail else [], facts=_figures(about))


_SAID: dict[str, Callable[[_Occasion], Said]] = {
    "invoice.finalized": _finalized,
    "invoice.paid": _paid,
    "dunning.payment_failed": _failed,
    "dunning.retry_planned": _planned,
    "dunning.card_requested": _card_requested,
    "dunning.retries_exhausted": _exhausted,
    "dunning.suspended": _suspended,
    "dunning.recovered": _recovered,
    "dunning.stopped": _stopped,
    "payment.refunded": _refunded,
    "credit_note.issued": _credited,
    "trial.ending": _trial,
    "card.expiring": _expiring,
}


def _figures(about: _Occasion) -> list[tuple[str, str]]:
    """The invoice as it stands when the mail is sent."""
    invoice = about.invoice
    if invoice is None or invoice.number is None:
        return []
    amounts = [("Total", invoice.total_minor)]
    if invoice.reduced_minor:
        amounts.append(("Credit notes", -invoice.reduced_minor))
    if invoice.paid_minor:
        amounts.append(("Paid", -invoice.paid_minor))
    if invoice.status != "void":
        amounts.append(("Amount due", invoice.due_minor))
    return [
        ("Invoice", invoice.number),
        *((name, format_money(Money(minor, invoice.currency))) for name, minor in amounts),
    ]


def _page(about: _Occasion) -> tuple[str, str] | None:
    """Where the invoice can be seen and paid, while there is something to pay."""
    invoice = about.invoice
    url = (invoice.hosted_invoice_url if invoice is not None else None) or ""
    if (
        invoice is None
        or invoice.status == "void"
        or not invoice.due_minor
        or not url.startswith(("https://", "http://"))
    ):
        return None
    return "View and pay the invoice", url


def _as_text(hello: str, said: Said, footer: str) -> str:
    parts = [hello, *said.sentences]
    if said.facts:
        width = max(len(name) for name, _ in said.facts)
        parts.append("\n".join(f"{name:<{width}}  {value}" for name, value in said.facts))
    if said.link is not None:
        parts.append(f"{said.link[0]}:\n{said.link[1]}")
    return "\n\n".join([*parts, f"-- \n{footer}"]) + "\n"


def _as_html(subject: str, hello: str, said: Said, footer: str) -> str:
    paragraphs = (f'<p style="margin:0 0 12px 0;">{escape(each)}</p>' for each in (hello, *said.sentences))
    return _template().substitute(
        subject=escape(subject),
        seller=escape(footer.partition(",")[0]),
        paragraphs="".join(paragraphs),
        facts=_facts_html(said.facts),
        button=_button_html(said.link),
        footer=escape(footer),
    )


def _facts_html(facts: Sequence[tuple[str, str]]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f'<tr><td style="padding:6px 0;color:#5b6777;">{escape(name)}</td>'
        f'<td align="right" style="padding:6px 0;">{escape(value)}</td></tr>'
        for name, value in facts
    )
    return (
        '<tr><td style="padding:8px 32px 16px 32px;"><table role="presentation" width="100%" cellpadding="0" '
        f'cellspacing="0" style="font-size:14px;border-top:1px solid #d9dee5;">{rows}</table></td></tr>'
    )


def _button_html(link: tuple[str, str] | None) -> str:
    if link is None:
        return ""
    words, url = link
    return (
        f'<tr><td style="padding:4px 32px 28px 32px;"><a href="{escape(url)}" style="display:inline-block;'
        "padding:11px 20px;background:#2f4fd0;border-radius:4px;color:#ffffff;font-size:15px;"
        f'font-weight:bold;text-decoration:none;">{escape(words)}</a></td></tr>'
    )


@cache
def _template() -> Template:
    return Template(_TEMPLATE.read_text(encoding="utf-8"))
