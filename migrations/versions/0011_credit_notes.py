"""Credit notes of our own: numbered, settled in several ways, with lines; frozen once issued.

What a note before payment takes off is kept on its invoice, and an attempt that a person asked for on its
payment. A mail can be refused for good.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

_OWN_ROWS = "organization_id = (SELECT NULLIF(current_setting('dunlin.organization_id', true), '')::uuid)"
_WAYS = ("reduces_due", "refund", "credit", "out_of_band")
_NEW_TABLES = ("credit_note_sequences", "credit_note_lines")

# Until now a note was a row of Stripe's, under Stripe's number. The owner is bound by the policies too,
# as long as they are forced.
_NUMBER_WHAT_IS_THERE = """
ALTER TABLE tenant.credit_notes NO FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.credit_note_sequences NO FORCE ROW LEVEL SECURITY;
UPDATE tenant.credit_notes n SET
    key = 'stripe:' || coalesce(n.stripe_credit_note_id, n.id::text), stripe_number = n.number,
    number = upper(o.slug) || '-CN-' || lpad(old.place::text, 6, '0'),
    state = CASE WHEN n.voided_at IS NULL THEN 'issued' ELSE 'void' END,
    issued_at = n.created_at, subtotal_minor = n.amount_minor,
    reduces_due_minor = CASE n.settlement WHEN 'reduces_due' THEN n.amount_minor ELSE 0 END,
    refund_minor = CASE n.settlement WHEN 'refund' THEN n.amount_minor ELSE 0 END,
    credit_minor = CASE n.settlement WHEN 'credit' THEN n.amount_minor ELSE 0 END,
    out_of_band_minor = CASE n.settlement WHEN 'out_of_band' THEN n.amount_minor ELSE 0 END
FROM (SELECT *, row_number() OVER (PARTITION BY organization_id ORDER BY created_at, id) AS place
      FROM tenant.credit_notes) old
JOIN catalog.organizations o ON o.id = old.organization_id
WHERE (n.organization_id, n.id) = (old.organization_id, old.id);
INSERT INTO tenant.credit_note_sequences (organization_id, last_number)
SELECT organization_id, count(*) FROM tenant.credit_notes GROUP BY organization_id;
ALTER TABLE tenant.credit_notes FORCE ROW LEVEL SECURITY;
ALTER TABLE tenant.credit_note_sequences FORCE ROW LEVEL SECURITY;
"""

_GUARD = """
ALTER TABLE tenant.{table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.{table} FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenant.{table} TO dunlin_app USING ({own}) WITH CHECK ({own});
CREATE POLICY audit ON tenant.{table} FOR SELECT TO dunlin_auditor USING (true);
GRANT SELECT, INSERT, UPDATE ON tenant.{table} TO dunlin_app;
GRANT SELECT ON tenant.{table} TO dunlin_auditor;
"""

_FROZEN = """
CREATE FUNCTION tenant.refuse_credit_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.issued_at IS NOT NULL AND (
        to_jsonb(NEW) - 'state' - 'voided_at' IS DISTINCT FROM to_jsonb(OLD) - 'state' - 'voided_at'
        OR OLD.state = 'void' AND NEW.state <> 'void'
    ) THEN
        RAISE EXCEPTION 'credit note % is issued and cannot change', OLD.number USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER immutable BEFORE UPDATE ON tenant.credit_notes
    FOR EACH ROW EXECUTE FUNCTION tenant.refuse_credit_note_change();

CREATE FUNCTION tenant.refuse_credit_note_line_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE line tenant.credit_note_lines := CASE WHEN TG_OP = 'INSERT' THEN NEW ELSE OLD END;
BEGIN
    IF EXISTS (
        SELECT FROM tenant.credit_notes n
        WHERE n.organization_id = line.organization_id AND n.id = line.credit_note_id AND n.issued_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'line % belongs to an issued credit note', line.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenant.credit_note_lines
    FOR EACH ROW EXECUTE FUNCTION tenant.refuse_credit_note_line_change();
"""


def upgrade() -> None:
    _add_sequences()
    _widen_notes()
    _add_lines()
    for table in _NEW_TABLES:
        op.execute(_GUARD.format(table=table, own=_OWN_ROWS))
    op.execute(_FROZEN)
    _widen_others()


def _add_sequences() -> None:
    op.create_table(
        "credit_note_sequences",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["catalog.organizations.id"],
            name=op.f("fk_credit_note_sequences_organization_id"),
        ),
        sa.PrimaryKeyConstraint("organization_id", name=op.f("pk_credit_note_sequences")),
        schema="tenant",
    )


def _widen_notes() -> None:
    words = ("key", "state", "stripe_number", "refusal")
    amounts = ("subtotal_minor", "discount_minor", "tax_minor", *(f"{way}_minor" for way in _WAYS))
    for name in words:
        op.add_column("credit_notes", sa.Column(name, sa.String(), nullable=True), schema="tenant")
    for name in amounts:
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("credit_notes", column, schema="tenant")
        op.alter_column("credit_notes", name, server_default=None, schema="tenant")
    op.add_column("credit_notes", sa.Column("asked", postgresql.JSONB(), nullable=True), schema="tenant")
    op.add_column(
        "credit_notes", sa.Column("issued_at", sa.DateTime(timezone=True), nullable=True), schema="tenant"
    )
    op.execute(_NUMBER_WHAT_IS_THERE)
    op.drop_constraint("ck_credit_notes_settlement", "credit_notes", schema="tenant")
    op.drop_column("credit_notes", "settlement", schema="tenant")
    for name in ("key", "state"):
        op.alter_column("credit_notes", name, nullable=False, schema="tenant")
    op.alter_column("credit_notes", "number", nullable=True, schema="tenant")
    op.create_unique_constraint(
        op.f("uq_credit_notes_organization_id_key"),
        "credit_notes",
        ["organization_id", "key"],
        schema="tenant",
    )
    sums = " + ".join(f"{way}_minor" for way in _WAYS)
    signs = " AND ".join(f"{way}_minor >= 0" for way in _WAYS)
    for name, check in (
        ("state", "state IN ('pending', 'issued', 'void', 'refused')"),
        ("issued", "(state IN ('issued', 'void')) = (issued_at IS NOT NULL)"),
        ("numbered", "(issued_at IS NULL) = (number IS NULL)"),
        ("voided", "(state = 'void') = (voided_at IS NOT NULL)"),
        ("settled", f"{signs} AND {sums} = amount_minor"),
    ):
        op.create_check_constraint(op.f(f"ck_credit_notes_{name}"), "credit_notes", check, schema="tenant")
    op.create_index(
        "ix_credit_notes_invoice", "credit_notes", ["organization_id", "invoice_id"], schema="tenant"
    )
    op.create_index("ix_credit_notes_id", "credit_notes", ["id"], schema="tenant")


def _add_lines() -> None:
    op.create_table(
        "credit_note_lines",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("credit_note_id", sa.Uuid(), nullable=False),
        sa.Column("invoice_line_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.Numeric(36, 12), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("discount_minor", sa.BigInteger(), nullable=False),
        sa.Column("tax_minor", sa.BigInteger(), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("quantity >= 0", name=op.f("ck_credit_note_lines_quantity")),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["catalog.organizations.id"],
            name=op.f("fk_credit_note_lines_organization_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "credit_note_id"],
            ["tenant.credit_notes.organization_id", "tenant.credit_notes.id"],
            name=op.f("fk_credit_note_lines_organization_id_credit_note_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "invoice_line_id"],
            ["tenant.invoice_lines.organization_id", "tenant.invoice_lines.id"],
            name=op.f("fk_credit_note_lines_organization_id_invoice_line_id"),
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name=op.f("pk_credit_note_lines")),
        sa.UniqueConstraint(
            "organization_id",
            "credit_note_id",
            "invoice_line_id",
            name=op.f("uq_credit_note_lines_organization_id_credit_note_id_invoice_line_id"),
        ),
        schema="tenant",
    )
    op.create_index(
        "ix_credit_note_lines_line",
        "credit_note_lines",
        ["organization_id", "invoice_line_id"],
        schema="tenant",
    )


def _widen_others() -> None:
    reduced: sa.Column[int] = sa.Column("reduced_minor", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("invoices", reduced, schema="tenant")
    op.create_check_constraint(
        op.f("ck_invoices_due"),
        "invoices",
        "reduced_minor >= 0 AND paid_minor + reduced_minor <= total_minor",
        schema="tenant",
    )
    demanded: sa.Column[bool] = sa.Column("demanded", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("payments", demanded, schema="tenant")
    op.add_column("notifications", sa.Column("error", sa.String(), nullable=True), schema="tenant")
    op.drop_constraint("ck_notifications_state", "notifications", schema="tenant")
    op.create_check_constraint(
        op.f("ck_notifications_state"),
        "notifications",
        "state IN ('queued', 'sent', 'kept', 'failed')",
        schema="tenant",
    )
