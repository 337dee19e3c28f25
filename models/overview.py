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
        # One by one, each through the index of its state.
        "SELECT kind, state, count(*) FROM ("
        "SELECT kind, state FROM ops.jobs WHERE state = 'queued' "
        "UNION ALL SELECT kind, state FROM ops.jobs WHERE state = 'running' "
        "UNION ALL SELECT kind, state FROM ops.jobs WHERE state = 'dead') AS open GROUP BY kind, state",
    ),
    _Question(
        "dunlin_webhooks",
        "Webhook events in the inbox that are not done, by state",
        ("state",),
        "SELECT state, count(*) FROM ops.webhook_inbox WHERE state IN ('queued', 'running') GROUP BY state "
        "UNION ALL SELECT 'dead', count(*) FROM ops.webhook_inbox WHERE state = 'dead'",
    ),
    _Question(
        "dunlin_usage_batches",
        "Usage batches in the inbox that are not done, by state",
        ("state",),
        "SELECT state, count(*) FROM ops.usage_inbox WHERE state IN ('queued', 'running') GROUP BY state "
        "UNION ALL SELECT 'dead', count(*) FROM ops.usage_inbox WHERE state = 'dead'",
    ),
    _Question(
        "dunlin_usage_accepted",
        "Usage events accepted at the door, as counted last",
        ("product",),
        "SELECT p.code, sum(d.accepted) FROM ops.usage_days d JOIN catalog.products p ON p.id = d.product_id "
        "GROUP BY p.code ORDER BY p.code",
    ),
    _Question(
        "dunlin_usage",
        "Where the accepted usage events are: rated, waiting, quarantined, duplicate; their sum",
        ("product", "account"),
        """
        SELECT p.code, placed.account, sum(placed.events)
        FROM ops.usage_days d JOIN catalog.products p ON p.id = d.product_id
        CROSS JOIN LATERAL (VALUES ('rated', d.rated), ('waiting', d.waiting), ('quarantined', d.quarantined),
                                   ('duplicate', d.duplicate)) AS placed(account, events)
        GROUP BY p.code, placed.account ORDER BY p.code, placed.account
        """,
    ),
    _Question(
        "dunlin_usage_unbalanced_days",
        "Days of acceptance on which accepted = rated + waiting + quarantined + duplicate does not hold",
        ("product",),
        "SELECT p.code, count(*) FILTER (WHERE d.unbalanced > 0 "
        "OR d.accepted <> d.rated + d.waiting + d.quarantined + d.duplicate) FROM ops.usage_days d "
        "JOIN catalog.products p ON p.id = d.product_id GROUP BY p.code ORDER BY p.code",
    ),
    _Question(
        "dunlin_usage_count_age_seconds",
        "How long ago usage was counted last",
        (),
        "SELECT extract(epoch FROM now() - max(counted_at))::bigint FROM ops.usage_days "
        "HAVING max(counted_at) IS NOT NULL",
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
