"""Corrections of usage events: the record stays as it came, the newest correction counts."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_OWN_ROWS = "organization_id = (SELECT NULLIF(current_setting('dunlin.organization_id', true), '')::uuid)"

# Append-only: what is ever written to a correction that stands is the line that first counted it.
_ACCESS = f"""
GRANT SELECT, INSERT ON tenant.usage_corrections TO dunlin_app;
GRANT UPDATE (invoice_line_id) ON tenant.usage_corrections TO dunlin_app;
GRANT SELECT ON tenant.usage_corrections TO dunlin_auditor;
ALTER TABLE tenant.usage_corrections ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.usage_corrections FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenant.usage_corrections TO dunlin_app USING ({_OWN_ROWS}) WITH CHECK ({_OWN_ROWS});
CREATE POLICY audit ON tenant.usage_corrections FOR SELECT TO dunlin_auditor USING (true);
"""


def upgrade() -> None:
    op.create_table(
        "usage_corrections",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("quantity", sa.Numeric(precision=24, scale=12), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("meter_id", sa.Uuid(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("invoice_line_id", sa.Uuid(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('void', 'quantity')", name=op.f("ck_usage_corrections_kind")),
        sa.CheckConstraint(
            "(kind = 'quantity') = (quantity IS NOT NULL)", name=op.f("ck_usage_corrections_quantity_of_kind")
        ),
        sa.CheckConstraint(
            "quantity > -1e12 AND quantity < 1e12", name=op.f("ck_usage_corrections_quantity")
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_usage_corrections_number")),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["catalog.organizations.id"],
            name=op.f("fk_usage_corrections_organization_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "product_id", "event_id"],
            [
                "tenant.usage_records.organization_id",
                "tenant.usage_records.product_id",
                "tenant.usage_records.event_id",
            ],
            name=op.f("fk_usage_corrections_organization_id_product_id_event_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "invoice_line_id"],
            ["tenant.invoice_lines.organization_id", "tenant.invoice_lines.id"],
            name=op.f("fk_usage_corrections_organization_id_invoice_line_id"),
            # A line is written after it has taken what it is made of.
            deferrable=True,
            initially="DEFERRED",
        ),
        sa.ForeignKeyConstraint(
            ["meter_id"], ["catalog.meters.id"], name=op.f("fk_usage_corrections_meter_id")
        ),
        sa.PrimaryKeyConstraint("organization_id", "id", name=op.f("pk_usage_corrections")),
        sa.UniqueConstraint(
            "organization_id",
            "product_id",
            "event_id",
            "number",
            name=op.f("uq_usage_corrections_organization_id_product_id_event_id_number"),
        ),
        sa.UniqueConstraint(
            "organization_id",
            "product_id",
            "idempotency_key",
            name=op.f("uq_usage_corrections_organization_id_product_id_idempotency_key"),
        ),
        schema="tenant",
    )
    for name, columns, where in (
        ("ix_usage_corrections_window", ["organization_id", "meter_id", "occurred_at"], None),
        ("ix_usage_corrections_line", ["organization_id", "invoice_line_id"], None),
        ("ix_usage_corrections_waiting", ["organization_id"], "invoice_line_id IS NULL"),
    ):
        op.create_index(
            name,
            "usage_corrections",
            columns,
            schema="tenant",
            postgresql_where=None if where is None else sa.text(where),
        )
    op.create_index(
        "ix_usage_conflicts_product",
        "usage_conflicts",
        ["product_id", "received_at", "id"],
        schema="tenant",
    )
    op.execute(_ACCESS)
