"""The role that rates and seals cycle invoices of many organizations at once, and can do little else.

A month's end closes an organization's subscription after another; each one alone costs some thirty round trips.
"""

from alembic import op

revision = "0020"
down_revision = "0019"

# Taken on for one transaction (SET LOCAL ROLE); dunlin_app inherits nothing of it (0007).
_ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dunlin_billing') THEN
        CREATE ROLE dunlin_billing NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
END $$;
GRANT dunlin_billing TO dunlin_app;
GRANT USAGE ON SCHEMA catalog, ops, tenant TO dunlin_billing;
GRANT SELECT ON catalog.organizations, catalog.tax_rates, catalog.products, catalog.product_plans, catalog.plan_prices,
    catalog.plan_charges, catalog.meters, catalog.subscription_bundles, ops.test_clocks TO dunlin_billing;
GRANT SELECT, INSERT ON ops.jobs TO dunlin_billing;
GRANT SELECT ON tenant.subscription_changes, tenant.pending_charges, tenant.coupon_redemptions,
    tenant.usage_corrections, tenant.credit_entries TO dunlin_billing;
GRANT SELECT, UPDATE (usage_closed_until_at) ON tenant.product_subscriptions TO dunlin_billing;
GRANT SELECT, UPDATE (debited_minor, debited_from_at, debited_until_at) ON tenant.subscription_items TO dunlin_billing;
GRANT SELECT, UPDATE (state, invoice_line_id) ON tenant.usage_records TO dunlin_billing;
GRANT SELECT, INSERT, UPDATE ON tenant.invoices TO dunlin_billing;
GRANT SELECT, INSERT ON tenant.invoice_lines TO dunlin_billing;
GRANT SELECT, INSERT, UPDATE ON tenant.invoice_sequences TO dunlin_billing;
GRANT INSERT ON tenant.notifications TO dunlin_billing;
"""
_READ = (
    "subscription_changes",
    "pending_charges",
    "coupon_redemptions",
    "usage_corrections",
    "credit_entries",
)
_WRITTEN = (
    "product_subscriptions",
    "subscription_items",
    "usage_records",
    "invoices",
    "invoice_lines",
    "invoice_sequences",
    "notifications",
)


def upgrade() -> None:
    op.execute(_ROLE)
    for table in _READ:
        op.execute(f"CREATE POLICY billing ON tenant.{table} FOR SELECT TO dunlin_billing USING (true)")
    for table in _WRITTEN:
        op.execute(
            f"CREATE POLICY billing ON tenant.{table} TO dunlin_billing USING (true) WITH CHECK (true)"
        )
    # Due jobs of one kind are claimed together, whatever else is due.
    op.execute("CREATE INDEX ix_jobs_kind ON ops.jobs (kind, clock_id, due_at) WHERE state = 'queued'")
