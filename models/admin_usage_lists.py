"""The admin's lists of usage: records, corrections, conflicts with both contents side by side."""

from models.admin_lists import OF_ORGANIZATION, ORGANIZATION, ListQuery

USAGE = ListQuery(
    columns="t.event_id, "
    + ORGANIZATION
    + ", p.name AS product, m.code AS metric, t.quantity, t.occurred_at, "
    "t.state, t.late, t.reason, n.id AS invoice_id, n.number AS invoice, t.batch_id, t.properties",
    source="tenant.usage_records t" + OF_ORGANIZATION + " JOIN catalog.products p ON p.id = t.product_id "
    "JOIN catalog.meters m ON m.id = t.meter_id LEFT JOIN tenant.invoice_lines e "
    "ON (e.organization_id, e.id) = (t.organization_id, t.invoice_line_id) "
    "LEFT JOIN tenant.invoices n ON (n.organization_id, n.id) = (e.organization_id, e.invoice_id)",
    latest="t.batch_id DESC, t.batch_index",
    search=("t.event_id",),
    filters={
        "state": "t.state",
        "reason": "t.reason",
        "product": "p.code",
        "metric": "m.code",
        "organization": "t.organization_id",
        "batch": "t.batch_id",
        "line": "t.invoice_line_id",
        "day": "t.occurred_at",
    },
)
# By key, for the rows of the page alone.
_OF_RECORD = (
    " CROSS JOIN LATERAL (SELECT * FROM tenant.usage_records r WHERE r.organization_id = t.organization_id "
    "AND r.product_id = t.product_id AND r.event_id = t.event_id LIMIT 1) r"
)
CORRECTIONS = ListQuery(
    columns="t.event_id, " + ORGANIZATION + ", p.name AS product, r.quantity AS original, "
    "CASE t.kind WHEN 'void' THEN 'void' ELSE CAST(trim_scale(t.quantity) AS text) END AS correction, "
    "t.reason, t.who, "
    "t.received_at, CASE WHEN t.invoice_line_id IS NULL THEN 'waiting' ELSE 'rated' END AS state, "
    "n.id AS invoice_id, n.number AS invoice",
    source="tenant.usage_corrections t"
    + OF_ORGANIZATION
    + _OF_RECORD
    + " JOIN catalog.products p ON p.id = t.product_id LEFT JOIN tenant.invoice_lines e "
    "ON (e.organization_id, e.id) = (t.organization_id, t.invoice_line_id) "
    "LEFT JOIN tenant.invoices n ON (n.organization_id, n.id) = (e.organization_id, e.invoice_id)",
    latest="t.id DESC",
    search=("t.event_id", "t.reason", "o.name"),
    filters={
        "product": "p.code",
        "kind": "t.kind",
        "organization": "t.organization_id",
        "line": "t.invoice_line_id",
    },
)
_CONTENTS = (
    "jsonb_build_object('quantity', CAST(trim_scale({quantity}) AS text), 'properties', {properties}, "
    "'at', to_char({occurred_at} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'))"
)
CONFLICTS = ListQuery(
    columns="t.event_id, "
    + ORGANIZATION
    + ", p.name AS product, t.received_at, "
    + _CONTENTS.format(quantity="r.quantity", occurred_at="r.occurred_at", properties="r.properties")
    + " AS kept, "
    + _CONTENTS.format(
        quantity="CAST(t.event ->> 'quantity' AS numeric)",
        occurred_at="CAST(t.event ->> 'occurred_at' AS timestamptz)",
        properties="t.event -> 'properties'",
    )
    + " AS refused, "
    "EXISTS (SELECT FROM tenant.usage_corrections k WHERE k.organization_id = t.organization_id "
    "AND k.product_id = t.product_id AND k.event_id = t.event_id "
    "AND k.received_at > t.received_at) AS settled",
    source="tenant.usage_conflicts t"
    + OF_ORGANIZATION
    + _OF_RECORD
    + " JOIN catalog.products p ON p.id = t.product_id",
    latest="t.received_at DESC, t.id DESC",
    search=("t.event_id", "o.name"),
    filters={"organization": "t.organization_id", "batch": "t.batch_id", "product": "p.code"},
)
