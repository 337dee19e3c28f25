"""`dunlin invoices`: pdf."""

from pathlib import Path

import click


@click.group("invoices")
def command() -> None:
    """Write invoices as PDF files."""


@command.command("pdf")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def write_pdfs(folder: Path) -> None:
    """Write every finalized invoice into FOLDER."""
    from cli.context import opened  # noqa: PLC0415
    from tasks.documents import write_invoice_pdfs  # noqa: PLC0415

    with opened() as context:
        paths = write_invoice_pdfs(context, folder)
    click.echo(f"{len(paths)} invoices in {folder}")
