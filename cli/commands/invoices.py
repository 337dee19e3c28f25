"""`dunlin invoices`: pdf, adjust."""

from pathlib import Path
from uuid import UUID

import click


@click.group("invoices")
def command() -> None:
    """Invoices: write them as PDF files; bill what is late at once."""


@command.command("pdf")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def write_pdfs(folder: Path) -> None:
    """Write every finalized invoice into FOLDER."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.documents import write_invoice_pdfs  # noqa: PLC0415

    with opened() as context:
        paths = write_invoice_pdfs(context, folder)
    click.echo(f"{len(paths)} invoices in {folder}")


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
        invoice = adjust(context, organization_id, subscription)
    click.echo("nothing waits" if invoice is None else f"invoice {invoice.id} is being made")
