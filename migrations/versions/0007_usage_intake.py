"""The role that opens usage batches of many organizations at once, and records without what costs each event.

A product's batch holds events of many organizations; opened one organization at a time it is read once
for each of them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

# The app takes the role on for one transaction (SET LOCAL ROLE). NOINHERIT: without that step it has
# neither the role's rights nor its policies.
_ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dunlin_intake') THEN
        CREATE ROLE dunlin_intake NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
END $$;
ALTER ROLE dunlin_app NOINHERIT;
GRANT dunlin_intake TO dunlin_app;
GRANT USAGE ON SCHEMA catalog, ops, tenant TO dunlin_intake;
GRANT SELECT ON catalog.plan_charges, tenant.subscription_items, tenant.product_subscriptions TO dunlin_intake;
GRANT SELECT, INSERT ON tenant.usage_records, tenant.usage_conflicts TO dunlin_intake;
GRANT SELECT, UPDATE ON ops.usage_inbox TO dunlin_intake;
-- Rows are locked by those who may update them; the policy below lets nothing be changed.
GRANT UPDATE (usage_closed_until_at) ON tenant.product_subscriptions TO dunlin_intake;
CREATE POLICY intake ON tenant.subscription_items FOR SELECT TO dunlin_intake USING (true);
CREATE POLICY intake ON tenant.product_subscriptions TO dunlin_intake USING (true) WITH CHECK (false);
CREATE POLICY intake ON tenant.usage_records TO dunlin_intake USING (true);
CREATE POLICY intake ON tenant.usage_conflicts TO dunlin_intake USING (true);
"""

# What they name never goes away; a check of each foreign key would cost more than the event's row.
# Invariant I10 looks for records that name nothing.
_UNCHECKED = ("meter_id", "organization_id", "product_id")


def upgrade() -> None:
    op.execute(_ROLE)
    for column in _UNCHECKED:
        op.drop_constraint(f"fk_usage_records_{column}", "usage_records", schema="tenant")
    # The columns themselves say whether two events are the same.
    op.drop_column("usage_records", "digest", schema="tenant")
    # Read once, when the batch is opened: neither taken apart nor compressed for that.
    op.alter_column("usage_inbox", "events", type_=sa.JSON(), postgresql_using="events::json", schema="ops")
    op.execute("ALTER TABLE ops.usage_inbox ALTER events SET STORAGE EXTERNAL")
