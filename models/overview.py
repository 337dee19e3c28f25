"""How the work stands, over all organizations: gauges for metrics and the admin's first page.

For a session of the auditor, which reads every organization and writes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Gauge:
    """One number with its labels."""

    name: str
    meaning: str
    labels: Mapping[str, str]
    value: int


@dataclass(frozen=True, slots=True)
class _Question:
    name: str
    meaning: str
    labels: tuple[str, ...]
    sql: str


_QUESTIONS = (
    _Question(
        "dunlin_jobs",
        "Jobs that are not done, by kind and state",
        ("kind", "state"),
        "SELECT kind, state, count(*) FROM ops.jobs WHERE state <> 'done' GROUP BY kind, state",
    ),
    _Question(
        "dunlin_webhooks",
        "Webhook events in the inbox, by state",
        ("state",),
        "SELECT state, count(*) FROM ops.webhook_inbox GROUP BY state",
    ),
    _Question(
        "dunlin_usage_batches",
        "Usage batches in the inbox, by state",
        ("state",),
        "SELECT state, count(*) FROM ops.usage_inbox GROUP BY state",
    ),
    _Question(
        "dunlin_usage_accepted",
        "Usage events accepted at the door",
        (),
        "SELECT coalesce(sum(accepted), 0) FROM ops.usage_inbox",
    ),
    _Question(
        "dunlin_usage",
        "Where the accepted usage events are: rated, waiting, quarantined, duplicate; their sum",
        ("account",),
        """
        SELECT account, sum(events) FROM (
            SELECT state AS account, count(*) AS events FROM tenant.usage_records GROUP BY state
            UNION ALL SELECT 'quarantined', count(*) FROM tenant.usage_conflicts
            UNION ALL SELECT 'waiting', coalesce(sum(accepted), 0) FROM ops.usage_inbox WHERE state <> 'done'
            UNION ALL SELECT 'duplicate', coalesce(sum(duplicates), 0) FROM ops.usage_inbox
            WHERE state = 'done'
        ) AS parts GROUP BY account
        """,
    ),
    _Question(
        "dunlin_dead",
        "Rows of work that gave up and wait for a person, by where they lie",
        ("place",),
        """
        SELECT 'jobs', count(*) FROM ops.jobs WHERE state = 'dead'
        UNION ALL SELECT 'webhooks', count(*) FROM ops.webhook_inbox WHERE state = 'dead'
        UNION ALL SELECT 'batches', count(*) FROM ops.usage_inbox WHERE state = 'dead'
        """,
    ),
    _Question(
        "dunlin_parked",
        "Invoices and organizations that are parked until a person looked",
        ("place",),
        """
        SELECT 'invoices', count(*) FROM tenant.invoices WHERE parked_at IS NOT NULL
        UNION ALL SELECT 'organizations', count(*) FROM catalog.organizations WHERE parked_at IS NOT NULL
        """,
    ),
    _Question(
        "dunlin_invoices",
        "Invoices, by status",
        ("status",),
        "SELECT status, count(*) FROM tenant.invoices GROUP BY status",
    ),
    _Question(
        "dunlin_dunning_open",
        "Unpaid invoices that are being pursued",
        (),
        "SELECT count(*) FROM tenant.dunning_cases WHERE state = 'open'",
    ),
    _Question(
        "dunlin_stripe_unresolved",
        "Calls to Stripe whose outcome is not known for more than a minute",
        (),
        "SELECT count(*) FROM ops.stripe_calls "
        "WHERE state IN ('prepared', 'unknown') AND created_at < now() - interval '1 minute'",
    ),
    _Question(
        "dunlin_reconciliation_differences",
        "Differences that the last reconciliation with Stripe found",
        (),
        "SELECT coalesce((SELECT jsonb_array_length(differences) FROM ops.reconciliation_runs "
        "WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1), 0)",
    ),
)


def gauges(session: Session) -> list[Gauge]:
    """Every gauge, counted now."""
    found = []
    for question in _QUESTIONS:
        for row in session.execute(text(question.sql)):
            labels = dict(zip(question.labels, map(str, row[:-1]), strict=True))
            found.append(Gauge(question.name, question.meaning, labels, int(row[-1])))
    return found
