"""`dunlin jobs`: list, redrive."""

from uuid import UUID

import click


@click.group("jobs")
def command() -> None:
    """Jobs that gave up: list them, drive them again."""


@command.command("list")
@click.option(
    "--state",
    type=click.Choice(["queued", "running", "done", "dead"]),
    default="dead",
    show_default=True,
    help="Which jobs.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
def list_jobs(state: str, limit: int) -> None:
    """Jobs of one state, the newest first."""
    from cli.context import opened  # noqa: PLC0415
    from models.ops import Job  # noqa: PLC0415

    with opened() as context, context.auditor.system() as session:
        jobs = session.query(Job).filter_by(state=state).order_by(Job.id.desc()).limit(limit).all()
    for job in jobs:
        click.echo(f"{job.id}  {job.kind}  due {job.due_at:%Y-%m-%d %H:%M}  attempts {job.attempts}")
        if job.last_error:
            click.echo(f"    {job.last_error}")
    click.echo(f"{len(jobs)} {state}")


@command.command("redrive")
@click.argument("job_ids", nargs=-1, type=click.UUID, required=True, metavar="ID...")
def redrive(job_ids: tuple[UUID, ...]) -> None:
    """Give dead jobs their attempts back; a worker takes them at the next sweep."""
    from cli.context import opened  # noqa: PLC0415
    from models.work import redrive_job  # noqa: PLC0415

    with opened() as context, context.system() as unit:
        refused = [job_id for job_id in job_ids if not redrive_job(unit.session, job_id)]
    for job_id in refused:
        click.echo(f"{job_id} is no dead job", err=True)
    if refused:
        raise click.ClickException(f"{len(refused)} of {len(job_ids)} were not driven again")
    click.echo(f"{len(job_ids)} queued again")
