"""Isolation: row-level security forced on every tenant table; what each role may do.

`dunlin_app` sees the organization that the transaction entered and nothing before that.
`dunlin_auditor` reads everything and writes nothing: invariants, reconciliation, admin lists.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

# After a transaction-local setting ends it reads '' and not NULL: both must mean "nothing".
# The scalar subquery makes Postgres read the setting once per statement, not once per row.
_OWN_ROWS = "organization_id = (SELECT NULLIF(current_setting('dunlin.organization_id', true), '')::uuid)"

_ROLES = """
GRANT USAGE ON SCHEMA catalog, ops, tenant TO dunlin_app, dunlin_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA catalog, ops, tenant TO dunlin_app;
REVOKE UPDATE, DELETE ON ops.audit_log FROM dunlin_app;
REVOKE DELETE ON catalog.organizations, tenant.invoices, tenant.payments, tenant.credit_notes,
    tenant.credit_entries, tenant.usage_records, tenant.usage_conflicts FROM dunlin_app;
REVOKE UPDATE ON tenant.credit_entries FROM dunlin_app;
GRANT UPDATE (stripe_transaction_id) ON tenant.credit_entries TO dunlin_app;
GRANT SELECT ON ALL TABLES IN SCHEMA catalog, ops, tenant TO dunlin_auditor;
ALTER ROLE dunlin_auditor SET default_transaction_read_only = on;
"""

_GUARD = """
DO $$
DECLARE guarded regclass;
BEGIN
    FOR guarded IN
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'tenant' AND c.relkind IN ('r', 'p')
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', guarded);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', guarded);
        EXECUTE format($p$CREATE POLICY own_rows ON %s TO dunlin_app USING ({own}) WITH CHECK ({own})$p$, guarded);
        EXECUTE format('CREATE POLICY audit ON %s FOR SELECT TO dunlin_auditor USING (true)', guarded);
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute(_ROLES)
    op.execute(_GUARD.format(own=_OWN_ROWS))
