"""Rollups of usage: what was used so far, without reading the events again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

_OWN_ROWS = "organization_id = (SELECT NULLIF(current_setting('dunlin.organization_id', true), '')::uuid)"

# Written by the tick alone, across organizations; nobody changes a rollup or takes one away.
_ACCESS = """
GRANT SELECT ON tenant.usage_rollups TO dunlin_app;
GRANT SELECT, INSERT ON tenant.usage_rollups TO dunlin_intake;
GRANT SELECT, INSERT ON tenant.usage_stale_hours TO dunlin_app;
GRANT SELECT, UPDATE, DELETE ON tenant.usage_stale_hours TO dunlin_intake;
GRANT SELECT ON tenant.usage_corrections, catalog.meters TO dunlin_intake;
GRANT SELECT ON ops.rollup_numbers TO dunlin_app, dunlin_auditor;
GRANT SELECT, INSERT, UPDATE ON ops.rollup_numbers TO dunlin_intake;
GRANT SELECT ON tenant.usage_rollups, tenant.usage_stale_hours TO dunlin_auditor;
CREATE POLICY intake ON tenant.usage_corrections FOR SELECT TO dunlin_intake USING (true);
"""
_GUARD = f"""
ALTER TABLE tenant.{{table}} ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant.{{table}} FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON tenant.{{table}} TO dunlin_app USING ({_OWN_ROWS}) WITH CHECK ({_OWN_ROWS});
CREATE POLICY audit ON tenant.{{table}} FOR SELECT TO dunlin_auditor USING (true);
CREATE POLICY intake ON tenant.{{table}} TO dunlin_intake USING (true);
"""

# In the database, because whoever changes what an event says, or whom it belongs to, must not forget it.
_STALE = """
CREATE FUNCTION tenant.usage_record_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tenant.usage_stale_hours (organization_id, subscription_id, item_id, meter_id, hour_at)
    SELECT r.organization_id, r.subscription_id, r.item_id, r.meter_id, date_trunc('hour', r.occurred_at, 'UTC')
    FROM (SELECT (OLD).* UNION ALL SELECT (NEW).*) r WHERE r.item_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER stale AFTER UPDATE OF subscription_id, item_id, meter_id, occurred_at, quantity, properties
    ON tenant.usage_records FOR EACH ROW EXECUTE FUNCTION tenant.usage_record_moved();

CREATE FUNCTION tenant.usage_corrected() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tenant.usage_stale_hours (organization_id, subscription_id, item_id, meter_id, hour_at)
    SELECT r.organization_id, r.subscription_id, r.item_id, r.meter_id, date_trunc('hour', r.occurred_at, 'UTC')
    FROM tenant.usage_records r
    WHERE r.organization_id = NEW.organization_id AND r.product_id = NEW.product_id AND r.event_id = NEW.event_id
      AND r.item_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER stale AFTER INSERT ON tenant.usage_corrections
    FOR EACH ROW EXECUTE FUNCTION tenant.usage_corrected();
"""


def upgrade() -> None:
    _create_rollups()
    _create_stale_hours()
    op.add_column("usage_inbox", sa.Column("rolled_up_at", sa.DateTime(timezone=True)), schema="ops")
    op.create_index(
        "ix_usage_inbox_unrolled",
        "usage_inbox",
        ["id"],
        schema="ops",
        postgresql_where=sa.text("rolled_up_at IS NULL"),
    )
    # Not a sequence: who holds the row writes, and what is rolled back gives its number back.
    op.create_table(
        "rollup_numbers",
        sa.Column("id", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id", name=op.f("ck_rollup_numbers_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_numbers")),
        schema="ops",
    )
    for table in ("usage_rollups", "usage_stale_hours"):
        op.execute(_GUARD.format(table=table))
    op.execute(_ACCESS)
    op.execute(_STALE)


def _create_rollups() -> None:
    op.create_table(
        "usage_rollups",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("hour_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("meter_id", sa.Uuid(), nullable=False),
        sa.Column("from_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("grouped", postgresql.JSONB(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("restates", sa.Boolean(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("sum", sa.Numeric(), nullable=False),
        sa.Column("least", sa.Numeric(), nullable=True),
        sa.Column("greatest", sa.Numeric(), nullable=True),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_event_id", sa.String(), nullable=True),
        sa.Column("last_quantity", sa.Numeric(), nullable=True),
        sa.Column("moment", sa.Numeric(), nullable=False),
        sa.Column("distinct_values", postgresql.JSONB(), nullable=True),
        sa.Column("written_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        *_references("usage_rollups"),
        sa.PrimaryKeyConstraint(
            "organization_id",
            "subscription_id",
            "hour_at",
            "item_id",
            "meter_id",
            "from_at",
            "grouped",
            "number",
            name=op.f("pk_usage_rollups"),
        ),
        schema="tenant",
    )


def _create_stale_hours() -> None:
    op.create_table(
        "usage_stale_hours",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("meter_id", sa.Uuid(), nullable=False),
        sa.Column("hour_at", sa.DateTime(timezone=True), nullable=False),
        *_references("usage_stale_hours"),
        sa.PrimaryKeyConstraint("organization_id", "id", name=op.f("pk_usage_stale_hours")),
        schema="tenant",
    )
    op.create_index(
        "ix_usage_stale_hours_subscription",
        "usage_stale_hours",
        ["organization_id", "subscription_id"],
        schema="tenant",
    )


def _references(table: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint(
            ["organization_id"], ["catalog.organizations.id"], name=op.f(f"fk_{table}_organization_id")
        ),
        sa.ForeignKeyConstraint(["meter_id"], ["catalog.meters.id"], name=op.f(f"fk_{table}_meter_id")),
        sa.ForeignKeyConstraint(
            ["organization_id", "subscription_id"],
            ["tenant.product_subscriptions.organization_id", "tenant.product_subscriptions.id"],
            name=op.f(f"fk_{table}_organization_id_subscription_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "item_id"],
            ["tenant.subscription_items.organization_id", "tenant.subscription_items.id"],
            name=op.f(f"fk_{table}_organization_id_item_id"),
        ),
    ]
