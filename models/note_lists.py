"""The admin's lists of credit notes and their lines: over all organizations, read only."""

from models.admin_lists import OF_ORGANIZATION, ORGANIZATION, ListQuery

NOTES = ListQuery(
    columns="t.id, coalesce(t.number, '(pending)') AS number, "
    + ORGANIZATION
    + ", n.id AS invoice_id, n.number AS invoice, t.state, t.currency, t.amount_minor, "
    "t.reduces_due_minor, t.refund_minor, t.credit_minor, t.out_of_band_minor, t.reason, t.issued_at",
    source="tenant.credit_notes t" + OF_ORGANIZATION + " JOIN tenant.invoices n "
    "ON (n.organization_id, n.id) = (t.organization_id, t.invoice_id)",
    latest="t.id DESC",
    search=("t.number", "n.number", "o.name", "t.stripe_number", "t.reason"),
    filters={
        "id": "t.id",
        "state": "t.state",
        "invoice": "t.invoice_id",
        "organization": "t.organization_id",
    },
    table="tenant.credit_notes",
)
NOTE_LINES = ListQuery(
    columns="l.description, t.quantity, t.currency, t.amount_minor, t.discount_minor, t.tax_minor, "
    "t.total_minor",
    source="tenant.credit_note_lines t JOIN tenant.invoice_lines l "
    "ON (l.organization_id, l.id) = (t.organization_id, t.invoice_line_id)",
    latest="l.position, t.id",
    filters={"note": "t.credit_note_id"},
)
