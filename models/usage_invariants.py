"""Invariant I1 as SQL: where every usage record and every correction of one is."""

from models.metering_sql import group_number

# I1: each usage record in exactly one line, or waiting, or quarantined with a reason. The table's
# constraints hold the shape of each state; here: that the line exists and is the right one, that no
# record waits for an invoice that has gone, and that a line still has the records that it was rated from.
# A correction is counted by exactly one line, of its own event's item, meter and period, or waits.
_RECORDS_NUMBER = group_number("r.properties", "l.explanation -> 'groups'")
# No index for the rest, which the line writes as null.
_RECORDS_GROUP = f"""
    coalesce(l.explanation -> 'groups' -> CAST(nullif({_RECORDS_NUMBER}, 0) - 1 AS integer), 'null')
"""
USAGE = f"""
    SELECT r.organization_id, r.event_id AS subject,
           'usage event ' || r.event_id || CASE WHEN l.id IS NULL
               THEN ' is rated by a line that does not exist'
               ELSE ' is rated by a line of another item, meter, group or period' END AS detail
    FROM tenant.usage_records r
    LEFT JOIN tenant.invoice_lines l ON l.organization_id = r.organization_id AND l.id = r.invoice_line_id
    WHERE r.state = 'rated' AND (
        l.id IS NULL
        OR l.kind NOT IN ('usage', 'adjustment')
        OR (l.subscription_id, l.item_id, l.meter_id)
           IS DISTINCT FROM (r.subscription_id, r.item_id, r.meter_id)
        OR r.occurred_at < l.period_start_at OR r.occurred_at >= l.period_end_at
        OR (l.explanation ? 'groups' AND {_RECORDS_GROUP} IS DISTINCT FROM l.explanation -> 'group'))
    UNION ALL
    SELECT r.organization_id, r.event_id,
           'usage event ' || r.event_id || CASE WHEN r.subscription_id IS NULL
               THEN ' waits without a subscription to bill'
               ELSE ' waits for an invoice, but its period was closed without it' END
    FROM tenant.usage_records r
    LEFT JOIN tenant.product_subscriptions s
           ON s.organization_id = r.organization_id AND s.id = r.subscription_id
    WHERE r.state = 'waiting'
      AND (r.subscription_id IS NULL OR (NOT r.late AND r.occurred_at < s.usage_closed_until_at))
    UNION ALL
    SELECT l.organization_id, l.id::text,
           format('a usage line was rated from %s events and has %s', l.explanation ->> 'facts', found.events)
    FROM tenant.invoice_lines l
    CROSS JOIN LATERAL (
        SELECT count(*) AS events FROM tenant.usage_records r
        WHERE r.organization_id = l.organization_id AND r.subscription_id = l.subscription_id
          AND r.meter_id = l.meter_id AND r.invoice_line_id = l.id
          AND r.occurred_at >= l.period_start_at AND r.occurred_at < l.period_end_at
    ) found
    WHERE l.kind = 'usage' AND l.explanation ->> 'facts' <> found.events::text
    UNION ALL
    SELECT k.organization_id, k.id::text,
           'the correction of usage event ' || k.event_id || CASE
               WHEN r.state <> 'rated' THEN ' is counted by a line, but its event is not'
               WHEN l.kind NOT IN ('usage', 'adjustment') THEN ' is counted by a line of another kind'
               ELSE ' is counted by a line of another item, meter, group or period' END
    FROM tenant.usage_corrections k
    JOIN tenant.usage_records r ON r.organization_id = k.organization_id AND r.product_id = k.product_id
         AND r.event_id = k.event_id
    JOIN tenant.invoice_lines l ON l.organization_id = k.organization_id AND l.id = k.invoice_line_id
    WHERE r.state <> 'rated' OR l.kind NOT IN ('usage', 'adjustment')
       OR (l.subscription_id, l.item_id, l.meter_id)
          IS DISTINCT FROM (r.subscription_id, r.item_id, r.meter_id)
       OR r.occurred_at < l.period_start_at OR r.occurred_at >= l.period_end_at
       OR (l.explanation ? 'groups' AND {_RECORDS_GROUP} IS DISTINCT FROM l.explanation -> 'group')
    UNION ALL
    SELECT l.organization_id, l.id::text,
           format('an adjustment names %s corrections as its cause and has counted %s',
                  l.explanation -> 'adjusts' ->> 'corrected_events', found.corrections)
    FROM tenant.invoice_lines l
    CROSS JOIN LATERAL (
        SELECT count(*) AS corrections FROM tenant.usage_corrections k
        WHERE k.organization_id = l.organization_id AND k.invoice_line_id = l.id
    ) found
    WHERE l.kind = 'adjustment'
      AND coalesce((l.explanation -> 'adjusts' ->> 'corrected_events')::bigint, 0) <> found.corrections
"""
