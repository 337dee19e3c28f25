"""The invariants I1 to I12 as SQL: each query returns what breaks it, and no row is good news.

Run as the auditor role, which sees all organizations and writes nothing. I11 (running any job again
changes nothing) is a property of code and not of rows: tests hold it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from billing.dunning import Decline, DunningPolicy, is_hard
from models import note_invariants
from models.invoice_hash import changed_invoices
from models.usage_invariants import USAGE

# A broken database may breach once per row: enough to see what is wrong, not all of it.
_MOST_PER_INVARIANT = 200


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken invariant. `subject_id` names the row (an id, an event id or an invoice number)."""

    invariant: str
    organization_id: UUID | None
    subject_id: str
    detail: str


def check(session: Session, wall: datetime, policy: DunningPolicy | None = None) -> list[Breach]:
    """Every breach in the database, at most 200 of each invariant.

    Args: a session of the auditor; the wall's now, for leases; the dunning policy in force.
    """
    # A full pass over the usage may take longer than any statement of the daily work is allowed.
    session.execute(text("SET LOCAL statement_timeout = '15min'"))
    values = {**_values(wall, policy or DunningPolicy()), "hard_codes": _hard_codes(session)}
    found = [
        breach for name, query in INVARIANTS.items() for breach in _breaches(session, name, query, values)
    ]
    for count, (organization_id, invoice_id, number) in enumerate(changed_invoices(session)):
        if count == _MOST_PER_INVARIANT:
            break
        detail = f"invoice {number} is not what was finalized: its content hash differs"
        found.append(Breach("I8", organization_id, str(invoice_id), detail))
    return sorted(found, key=lambda breach: int(breach.invariant[1:]))


def check_one(session: Session, organization_id: UUID, wall: datetime, policy: DunningPolicy) -> list[Breach]:
    """What of one organization is wrong, in a session that has entered it: its rows alone are read."""
    values = {**_values(wall, policy), "hard_codes": _hard_codes(session), "only": organization_id}
    own = "SELECT * FROM ({}) AS own WHERE organization_id = :only"
    found = [
        breach
        for name, query in INVARIANTS.items()
        for breach in _breaches(session, name, own.format(query), values)
    ]
    found += [
        Breach("I8", organization_id, str(invoice_id), f"invoice {number} is not what was finalized")
        for _, invoice_id, number in changed_invoices(session)
    ]
    return found


def _values(wall: datetime, policy: DunningPolicy) -> dict[str, Any]:
    delays = [policy.retry_delay(done) for done in range(policy.retry_attempts)]
    return {
        "wall": wall,
        "most": _MOST_PER_INVARIANT,
        "retry_attempts": policy.retry_attempts,
        "delays": delays,
    }


def _hard_codes(session: Session) -> list[str]:
    """Of the declines that open cases stand at, those that the rules call final."""
    codes = session.execute(
        text("SELECT DISTINCT decline_code FROM tenant.dunning_cases WHERE state = 'open'")
    )
    return [code for code in codes.scalars() if code and is_hard(Decline(None, code, None))]


def _breaches(session: Session, name: str, query: str, values: dict[str, Any]) -> Iterator[Breach]:
    limited = text(f"SELECT organization_id, subject, detail FROM ({query}) AS breaches LIMIT :most")
    needed = {key: value for key, value in values.items() if f":{key}" in limited.text}
    for row in session.execute(limited, needed):
        yield Breach(name, row.organization_id, row.subject, row.detail)


# I2: lines add up to the invoice. Inclusive tax is contained in the lines and adds nothing.
_SUMS = """
    SELECT i.organization_id, i.id::text AS subject,
           format('invoice %s: lines come to %s - %s + %s, the invoice says %s - %s + %s - %s = %s %s',
                  coalesce(i.number, '(draft)'), l.amount, l.discount, l.tax, i.subtotal_minor,
                  i.discount_minor, i.tax_minor, i.credit_minor, i.total_minor, i.currency) AS detail
    FROM tenant.invoices i
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor), 0) AS amount, coalesce(sum(discount_minor), 0) AS discount,
               CASE WHEN i.tax_inclusive THEN 0 ELSE coalesce(sum(tax_minor), 0) END AS tax,
               coalesce(bool_or(currency <> i.currency), false) AS foreign_currency
        FROM tenant.invoice_lines l WHERE l.organization_id = i.organization_id AND l.invoice_id = i.id
    ) l
    WHERE (i.rated_at IS NOT NULL OR i.finalized_at IS NOT NULL)
      AND (l.amount <> i.subtotal_minor OR l.discount <> i.discount_minor OR l.tax <> i.tax_minor
           OR l.foreign_currency
           OR i.subtotal_minor - i.discount_minor + i.tax_minor - i.credit_minor <> i.total_minor)
"""

# I3: one invoice per subscription, period and kind; the usage periods of a subscription begin with it,
# follow each other without gap or overlap, and end where its usage is closed.
_PERIODS = """
    SELECT organization_id, min(id::text) AS subject,
           format('subscription %s has %s invoices (%s) of one period', subscription_id, count(*), kind)
               AS detail
    FROM tenant.invoices GROUP BY organization_id, subscription_id, period_start_at, kind HAVING count(*) > 1
    UNION ALL
    SELECT i.organization_id, i.id::text,
           format('the period of invoice %s starts at %s, but the one before it ends at %s',
                  coalesce(i.number, i.id::text), i.period_start_at, i.expected_at)
    FROM (
        SELECT i.organization_id, i.id, i.number, i.period_start_at,
               coalesce(lag(i.period_end_at) OVER earlier, s.started_at) AS expected_at
        FROM tenant.invoices i
        JOIN tenant.product_subscriptions s
          ON s.organization_id = i.organization_id AND s.id = i.subscription_id
        WHERE i.kind IN ('cycle', 'final')
        WINDOW earlier AS (PARTITION BY i.organization_id, i.subscription_id
                           ORDER BY i.period_start_at, i.period_end_at)
    ) i
    WHERE i.period_start_at <> i.expected_at
    UNION ALL
    SELECT s.organization_id, s.id::text,
           format('usage is closed until %s, but invoices cover it until %s', s.usage_closed_until_at,
                  coalesce(i.covered_at, s.started_at))
    FROM tenant.product_subscriptions s
    CROSS JOIN LATERAL (
        SELECT max(period_end_at) FILTER (WHERE rated_at IS NOT NULL) AS covered_at,
               max(period_end_at) FILTER (WHERE rated_at IS NULL AND kind = 'adjustment') AS missed_at
        FROM tenant.invoices i
        WHERE i.organization_id = s.organization_id AND i.subscription_id = s.id AND i.kind <> 'first'
          -- An adjustment at an instant takes what is late and closes nothing.
          AND (i.kind <> 'adjustment' OR i.period_end_at > i.period_start_at)
    ) i
    WHERE s.usage_closed_until_at <> coalesce(i.covered_at, s.started_at)
      -- A cycle invoice that Stripe finalized without its usage: the usage is on its way, on its own.
      AND NOT (s.usage_closed_until_at < i.covered_at AND i.missed_at IS NOT DISTINCT FROM i.covered_at)
"""

# I4: the balance is the sum of the ledger, so the ledger must agree with everything that moves it, and
# nobody may have spent credit that was not there. Owed is only what was too little to charge and waits
# for the next invoice; a voided invoice has given back what it used; a note that gives credit is in it.
_LEDGER = """
    SELECT organization_id, currency AS subject,
           format('the credit balance is %s %s: more was used than was given', sum(amount_minor), currency)
               AS detail
    FROM tenant.credit_entries GROUP BY organization_id, currency
    HAVING sum(amount_minor) < least(0, sum(amount_minor) FILTER (WHERE key LIKE 'carried:%'))
    UNION ALL
    SELECT i.organization_id, i.id::text,
           format('invoice %s used %s of credit and its notes gave %s, the ledger says %s in all',
                  i.number, i.credit_minor, notes.given, ledger.moved)
    FROM tenant.invoices i
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor), 0) AS moved FROM tenant.credit_entries e
        WHERE e.organization_id = i.organization_id AND e.invoice_id = i.id AND e.currency = i.currency
    ) ledger
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(credit_minor), 0) AS given FROM tenant.credit_notes n
        WHERE n.organization_id = i.organization_id AND n.invoice_id = i.id AND n.state = 'issued'
    ) notes
    WHERE i.finalized_at IS NOT NULL
      AND ledger.moved <> notes.given - CASE WHEN i.status = 'void' THEN 0 ELSE i.credit_minor END
"""

# I5: one local row per Stripe object. That the rows say what Stripe says is reconciliation's to prove.
_MIRRORED = """
    SELECT (array_agg(organization_id))[1] AS organization_id, stripe_invoice_id AS subject,
           format('Stripe invoice %s has %s local rows', stripe_invoice_id, count(*)) AS detail
    FROM tenant.invoices WHERE stripe_invoice_id IS NOT NULL GROUP BY stripe_invoice_id HAVING count(*) > 1
    UNION ALL
    SELECT (array_agg(organization_id))[1], stripe_subscription_id,
           format('Stripe subscription %s has %s local rows', stripe_subscription_id, count(*))
    FROM tenant.product_subscriptions WHERE stripe_subscription_id IS NOT NULL
    GROUP BY stripe_subscription_id HAVING count(*) > 1
    UNION ALL
    SELECT (array_agg(organization_id))[1], stripe_payment_intent_id,
           format('payment %s is recorded %s times as money in', stripe_payment_intent_id, count(*))
    FROM tenant.payments WHERE stripe_payment_intent_id IS NOT NULL AND status IN ('succeeded', 'refunded')
    GROUP BY stripe_payment_intent_id HAVING count(*) > 1
    UNION ALL
    SELECT organization_id, id::text, format('invoice %s was finalized and has no Stripe invoice', number)
    FROM tenant.invoices WHERE finalized_at IS NOT NULL AND stripe_invoice_id IS NULL
    UNION ALL
    SELECT p.organization_id, p.id::text,
           format('a payment in %s belongs to an invoice in %s', p.currency, i.currency)
    FROM tenant.payments p
    JOIN tenant.invoices i ON i.organization_id = p.organization_id AND i.id = p.invoice_id
    WHERE p.currency <> i.currency
"""

# I6: a payment cannot exist without its invoice (foreign key); money in is never more than the total less
# what credit notes took off before, never before the invoice is final, and is what the invoice calls paid.
# An invoice without any money in may still be paid, outside of Stripe; not while an attempt of ours is
# unresolved. A paid invoice has nothing due.
_CHARGES = """
    SELECT i.organization_id, i.id::text AS subject,
           format('invoice %s (%s): total %s, paid %s, payments of %s', coalesce(i.number, 'no number'),
                  i.status, i.total_minor, i.paid_minor, p.received) AS detail
    FROM tenant.invoices i
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_minor) FILTER (WHERE status IN ('succeeded', 'refunded')), 0) AS received,
               coalesce(bool_or(status IN ('pending', 'unknown')), false) AS unresolved
        FROM tenant.payments p WHERE p.organization_id = i.organization_id AND p.invoice_id = i.id
    ) p
    WHERE p.received > i.total_minor - i.reduced_minor OR i.paid_minor > i.total_minor - i.reduced_minor
       OR (i.status = 'paid' AND i.paid_minor <> i.total_minor - i.reduced_minor)
       OR (p.received > 0 AND (p.received <> i.paid_minor OR i.finalized_at IS NULL))
       OR (p.received = 0 AND i.paid_minor > 0 AND p.unresolved)
       OR (i.status = 'paid') <> (i.paid_at IS NOT NULL)
"""

# I7: nobody is charged by us once an invoice is closed or its pursuit has stopped, save by an attempt that a
# person asked for on one that is still owed; nor for a period that begins after the subscription has ended.
# Our attempts are those with an intention towards Stripe: what customers pay on Stripe's page is theirs to
# do. Instants are of the organization's own clock.
_AFTER_THE_END = """
    SELECT p.organization_id, p.id::text AS subject,
           format('attempt %s of invoice %s was made at %s, after %s', p.attempt, i.number, p.attempted_at,
                  CASE WHEN i.status IN ('void', 'uncollectible') AND p.attempted_at > i.closed_at
                       THEN format('it was closed at %s', i.closed_at)
                       ELSE format('its pursuit stopped at %s', c.closed_at) END) AS detail
    FROM tenant.payments p
    JOIN ops.stripe_calls ours ON ours.idempotency_key = 'pay:' || p.invoice_id || ':' || p.attempt
    JOIN tenant.invoices i ON i.organization_id = p.organization_id AND i.id = p.invoice_id
    LEFT JOIN tenant.dunning_cases c ON c.organization_id = p.organization_id AND c.invoice_id = p.invoice_id
    WHERE (i.status = 'void' AND p.attempted_at > i.closed_at)
       OR (NOT p.demanded AND i.status = 'uncollectible' AND p.attempted_at > i.closed_at)
       OR (NOT p.demanded AND c.state = 'stopped' AND p.attempted_at > c.closed_at)
    UNION ALL
    SELECT l.organization_id, l.id::text,
           format('invoice %s charges a period that starts at %s, after the subscription ended at %s',
                  i.number, l.period_start_at, s.ended_at)
    FROM tenant.product_subscriptions s
    JOIN tenant.invoices i ON i.organization_id = s.organization_id AND i.subscription_id = s.id
    JOIN tenant.invoice_lines l ON l.organization_id = i.organization_id AND l.invoice_id = i.id
    WHERE s.ended_at IS NOT NULL AND i.status IN ('open', 'paid') AND l.kind IN ('recurring', 'seats')
      AND l.amount_minor > 0 AND l.period_start_at > s.ended_at
"""

# I8: numbers are gap-free per organization: 1 to the sequence's last, each once. (The content hashes
# are compared in Python: see models.invoice_hash.)
_NUMBERS = """
    SELECT coalesce(i.organization_id, q.organization_id) AS organization_id,
           coalesce(i.organization_id, q.organization_id)::text AS subject,
           format('%s invoice numbers from %s to %s, the sequence stands at %s', coalesce(i.numbers, 0),
                  i.first, i.last, coalesce(q.last_number, 0)) AS detail
    FROM (
        SELECT organization_id, count(DISTINCT place) AS numbers, min(place) AS first, max(place) AS last
        FROM (SELECT organization_id, substring(number FROM '[0-9]+$')::bigint AS place
              FROM tenant.invoices WHERE number IS NOT NULL) numbered
        GROUP BY organization_id
    ) i
    FULL JOIN tenant.invoice_sequences q ON q.organization_id = i.organization_id
    WHERE coalesce(i.numbers, 0) <> coalesce(q.last_number, 0)
       OR coalesce(i.last, 0) <> coalesce(q.last_number, 0) OR i.first <> 1
"""

# I9: no job past its lease (and 60 s for the sweep), no inbox row unhandled for 5 minutes. A dead row
# is unhandled too: it was acknowledged, and waits for a person.
_WORK = """
    SELECT organization_id, id::text AS subject,
           format('job %s has been past its lease since %s', kind, lease_until_at) AS detail
    FROM ops.jobs WHERE state = 'running' AND lease_until_at < :wall - interval '60 seconds'
    UNION ALL
    SELECT o.id, w.event_id,
           format('webhook %s (%s) is %s since %s', w.event_id, w.type, w.state, w.received_at)
    FROM ops.webhook_inbox w LEFT JOIN catalog.organizations o ON o.stripe_customer_id = w.customer_id
    WHERE w.state <> 'done' AND w.received_at < :wall - interval '5 minutes'
    UNION ALL
    SELECT CASE WHEN cardinality(organization_ids) = 1 THEN organization_ids[1] END, id::text,
           format('usage batch %s (%s events) is %s since %s', id, accepted, state, received_at)
    FROM ops.usage_inbox WHERE state <> 'done' AND received_at < :wall - interval '5 minutes'
"""

# I10: a child belongs to its parent's organization. Foreign keys hold it where there is one; these are
# the references without, kept so that bulk writes stay cheap.
_FAMILIES = """
    SELECT r.organization_id, r.event_id AS subject,
           'usage event ' || r.event_id || ' names an organization, a product or a meter that is not there'
               AS detail
    FROM tenant.usage_records r
    LEFT JOIN catalog.organizations o ON o.id = r.organization_id
    LEFT JOIN catalog.meters m ON m.id = r.meter_id AND m.product_id = r.product_id
    WHERE o.id IS NULL OR m.id IS NULL
    UNION ALL
    SELECT r.organization_id, r.event_id,
           'usage event ' || r.event_id || ' names an item that its organization does not have'
    FROM tenant.usage_records r
    LEFT JOIN tenant.subscription_items s
           ON (s.organization_id, s.subscription_id, s.id) = (r.organization_id, r.subscription_id, r.item_id)
    WHERE r.subscription_id IS NOT NULL AND s.id IS NULL
    UNION ALL
    SELECT l.organization_id, l.id::text, 'an invoice line names a subscription that is not its invoice''s'
    FROM tenant.invoice_lines l
    JOIN tenant.invoices i ON i.organization_id = l.organization_id AND i.id = l.invoice_id
    WHERE l.subscription_id <> i.subscription_id
    UNION ALL
    SELECT l.organization_id, l.id::text, 'an invoice line names an item that its subscription does not have'
    FROM tenant.invoice_lines l
    LEFT JOIN tenant.subscription_items s
           ON (s.organization_id, s.subscription_id, s.id) = (l.organization_id, l.subscription_id, l.item_id)
    WHERE l.item_id IS NOT NULL AND s.id IS NULL
    UNION ALL
    SELECT c.organization_id, c.id::text, 'a dunning case names a subscription that is not its invoice''s'
    FROM tenant.dunning_cases c
    JOIN tenant.invoices i ON i.organization_id = c.organization_id AND i.id = c.invoice_id
    WHERE c.subscription_id <> i.subscription_id
    UNION ALL
    SELECT e.organization_id, e.id::text,
           'a credit entry names an invoice that its organization does not have'
    FROM tenant.credit_entries e
    LEFT JOIN tenant.invoices i ON i.organization_id = e.organization_id AND i.id = e.invoice_id
    WHERE e.invoice_id IS NOT NULL AND i.id IS NULL
"""

# I12: retries within the policy, never earlier than scheduled from the first failure, and none planned
# for a card that the bank refused for good.
_RETRIES = """
    SELECT c.organization_id, c.id::text AS subject,
           CASE WHEN c.retries_done > :retry_attempts
                THEN format('%s retries where the policy allows %s', c.retries_done, :retry_attempts)
                WHEN c.next_attempt_at < c.first_failed_at + (CAST(:delays AS interval[]))[c.retries_done + 1]
                THEN format('retry %s is set for %s, earlier than the policy', c.retries_done + 1,
                            c.next_attempt_at)
                WHEN c.next_attempt_at IS NOT NULL AND c.decline_code = ANY(CAST(:hard_codes AS text[]))
                THEN format('a retry is planned although the bank said %s', c.decline_code)
                ELSE format('retry %s was made by %s, earlier than the policy', c.retries_done, p.last_at)
           END AS detail
    FROM tenant.dunning_cases c
    CROSS JOIN LATERAL (
        SELECT max(attempted_at) AS last_at FROM tenant.payments p
        WHERE p.organization_id = c.organization_id AND p.invoice_id = c.invoice_id
    ) p
    WHERE c.retries_done > :retry_attempts
       OR c.next_attempt_at < c.first_failed_at + (CAST(:delays AS interval[]))[c.retries_done + 1]
       OR (c.next_attempt_at IS NOT NULL AND c.decline_code = ANY(CAST(:hard_codes AS text[])))
       OR (c.retries_done > 0
           AND coalesce(p.last_at < c.first_failed_at + (CAST(:delays AS interval[]))[c.retries_done], true))
"""

INVARIANTS = {
    "I1": USAGE,
    "I2": f"{_SUMS} UNION ALL {note_invariants.SUMS}",
    "I3": _PERIODS,
    "I4": _LEDGER,
    "I5": _MIRRORED,
    "I6": f"{_CHARGES} UNION ALL {note_invariants.TOTALS}",
    "I7": _AFTER_THE_END,
    "I8": f"{_NUMBERS} UNION ALL {note_invariants.NUMBERS}",
    "I9": _WORK,
    "I10": _FAMILIES,
    "I12": _RETRIES,
}
