"""`dunlin invoices`: list, show, pdf, adjust, parked, release, void, write-off, pay, credit."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

if TYPE_CHECKING:
    from tasks.context import Context

_ACTOR = "cli"


@click.group("invoices")
def command() -> None:
    """Invoices: list, show, PDF files, bill what is late, release, void, write off, have paid, credit.

    An invoice is named by its number (ACME-000042) or its id.
    """


@command.command("list")
@click.argument("organization")
@click.option(
    "--status", type=click.Choice(["draft", "open", "paid", "void", "uncollectible"]), help="Only these."
)
def list_invoices(organization: str, status: str | None) -> None:
    """The invoices of ORGANIZATION (id, slug or external id), newest first."""
    from cli.context import opened  # noqa: PLC0415
    from cli.invoices import listed  # noqa: PLC0415

    with opened() as context:
        for line in listed(context, organization, status):
            click.echo(line)


@command.command("show")
@click.argument("invoice")
def show_invoice(invoice: str) -> None:
    """One invoice: its lines with their ids, its sums, payments and credit notes."""
    from cli.invoices import detail_lines  # noqa: PLC0415

    with _named(invoice) as (context, organization_id, invoice_id):
        for line in detail_lines(context, organization_id, invoice_id):
            click.echo(line)


@command.command("pdf")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def write_pdfs(folder: Path) -> None:
    """Write every finalized invoice and issued credit note into FOLDER."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.documents import write_invoice_pdfs, write_note_pdfs  # noqa: PLC0415

    with opened() as context:
        invoices = write_invoice_pdfs(context, folder)
        notes = write_note_pdfs(context, folder)
    click.echo(f"{len(invoices)} invoices and {len(notes)} credit notes in {folder}")


@command.command("adjust")
@click.argument("subscription", type=click.UUID)
def adjust_now(subscription: UUID) -> None:
    """Bill what came late or was corrected now, on an invoice of its own."""
    from billing.errors import NotFound  # noqa: PLC0415
    from cli.context import opened  # noqa: PLC0415
    from models.reading import owner_of  # noqa: PLC0415
    from tasks.adjusting import adjust  # noqa: PLC0415

    with opened() as context:
        with context.auditor.system() as session:
            organization_id = owner_of(session, "subscription", subscription)
        if organization_id is None:
            raise NotFound("no such subscription")
        invoice = adjust(context, organization_id, subscription, actor=_ACTOR)
    click.echo("nothing waits" if invoice is None else f"invoice {invoice.id} is being made")


@contextmanager
def _named(invoice: str) -> Iterator[tuple["Context", UUID, UUID]]:
    """A context, the invoice's organization and its id."""
    from cli.context import opened  # noqa: PLC0415
    from cli.invoices import find  # noqa: PLC0415

    with opened() as context:
        yield context, *find(context, invoice)


@command.command("parked")
def list_parked() -> None:
    """Invoices that wait for a person, the longest first, each with the reason."""
    from cli.context import opened  # noqa: PLC0415
    from cli.invoices import parked_lines  # noqa: PLC0415
    from models.parking import parked_invoices  # noqa: PLC0415

    with opened() as context, context.auditor.system() as session:
        found = parked_invoices(session)
    for each in found:
        for line in parked_lines(each):
            click.echo(line)
    click.echo(f"{len(found)} parked")


@command.command("release")
@click.argument("invoice")
def release(invoice: str) -> None:
    """Go on with billing a parked invoice, if both totals agree now; or say why not."""
    from tasks import releasing  # noqa: PLC0415

    with _named(invoice) as (context, organization_id, invoice_id):
        releasing.release_invoice(context, organization_id, invoice_id, _ACTOR)
    click.echo(f"{invoice} is released: a worker goes on with it")


@command.command("void")
@click.argument("invoice")
def void(invoice: str) -> None:
    """Take an unpaid invoice back for ever: it is not owed, and its usage is not billed again."""
    from cli.invoices import invoice_line  # noqa: PLC0415
    from tasks import closing  # noqa: PLC0415

    with _named(invoice) as (context, organization_id, invoice_id):
        click.echo(invoice_line(closing.void(context, organization_id, invoice_id, _ACTOR)))


@command.command("write-off")
@click.argument("invoice")
def write_off(invoice: str) -> None:
    """Give up collecting an open invoice: it is still owed, and access stays as it is."""
    from cli.invoices import invoice_line  # noqa: PLC0415
    from tasks import closing  # noqa: PLC0415

    with _named(invoice) as (context, organization_id, invoice_id):
        click.echo(invoice_line(closing.write_off(context, organization_id, invoice_id, _ACTOR)))


@command.command("pay")
@click.argument("invoice")
@click.option("--card", type=click.UUID, help="The id of a card; the default card, if not given.")
@click.option("--out-of-band", is_flag=True, help="The money came another way: no card is charged.")
def pay(invoice: str, card: UUID | None, out_of_band: bool) -> None:
    """Have an unpaid invoice paid now, outside of dunning's dates."""
    from cli.invoices import result_line  # noqa: PLC0415
    from tasks import closing  # noqa: PLC0415

    if card is not None and out_of_band:
        raise click.UsageError("name either a card or --out-of-band")
    terms = closing.PaymentTerms(payment_method_id=card, out_of_band=out_of_band)
    with _named(invoice) as (context, organization_id, invoice_id):
        result = closing.pay(context, organization_id, invoice_id, terms, _ACTOR)
    click.echo(result_line(result))
    if result.result != "paid":
        raise click.exceptions.Exit(1)


@command.command("credit")
@click.argument("invoice")
@click.option("--reason", required=True, help="What the credit note says of it.")
@click.option(
    "--amount", type=click.IntRange(min=1), help="Minor units, tax included; all that is left if not given."
)
@click.option(
    "--line", "lines", multiple=True, help="ID, ID=MINOR_UNITS or IDxQUANTITY of one line; repeatable."
)
@click.option(
    "--settle",
    type=click.Choice(["refund", "credit", "out_of_band", "reduces_due"]),
    help="Where the money goes.",
)
@click.option("--key", help="Names the intention: the same key credits once.")
def credit(
    *,
    invoice: str,
    reason: str,
    amount: int | None,
    lines: tuple[str, ...],
    settle: str | None,
    key: str | None,
) -> None:
    """Issue a credit note: in full, by line or by amount."""
    from uuid import uuid4  # noqa: PLC0415

    from cli.invoices import note_lines, note_terms  # noqa: PLC0415
    from tasks import credit_notes  # noqa: PLC0415

    terms = note_terms(reason, amount, lines, settle)
    with _named(invoice) as (context, organization_id, invoice_id):
        intention = f"cli:{key or uuid4()}"
        made = credit_notes.issue(context, organization_id, invoice_id, terms, intention, actor=_ACTOR)
    for line in note_lines(made):
        click.echo(line)
