"""A finalized invoice never changes: neither its figures, nor its lines, nor its number."""

from alembic import op

revision = "0005"
down_revision = "0004"

_INVOICE = """
CREATE FUNCTION tenant.refuse_invoice_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.finalized_at IS NOT NULL AND (
        NEW.finalized_at, NEW.number, NEW.content_hash, NEW.subscription_id, NEW.kind, NEW.currency,
        NEW.period_start_at, NEW.period_end_at, NEW.subtotal_minor, NEW.discount_minor, NEW.tax_minor,
        NEW.credit_minor, NEW.total_minor, NEW.stripe_invoice_id, NEW.tax_name, NEW.tax_percentage
    ) IS DISTINCT FROM (
        OLD.finalized_at, OLD.number, OLD.content_hash, OLD.subscription_id, OLD.kind, OLD.currency,
        OLD.period_start_at, OLD.period_end_at, OLD.subtotal_minor, OLD.discount_minor, OLD.tax_minor,
        OLD.credit_minor, OLD.total_minor, OLD.stripe_invoice_id, OLD.tax_name, OLD.tax_percentage
    ) THEN
        RAISE EXCEPTION 'invoice % is finalized and cannot change', OLD.number USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER immutable BEFORE UPDATE ON tenant.invoices
    FOR EACH ROW EXECUTE FUNCTION tenant.refuse_invoice_change();
"""

_LINES = """
CREATE FUNCTION tenant.refuse_line_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE line tenant.invoice_lines := CASE WHEN TG_OP = 'INSERT' THEN NEW ELSE OLD END;
BEGIN
    IF EXISTS (
        SELECT FROM tenant.invoices i
        WHERE i.organization_id = line.organization_id AND i.id = line.invoice_id AND i.finalized_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'line % belongs to a finalized invoice', line.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER immutable BEFORE INSERT OR UPDATE OR DELETE ON tenant.invoice_lines
    FOR EACH ROW EXECUTE FUNCTION tenant.refuse_line_change();
"""


def upgrade() -> None:
    op.execute(_INVOICE)
    op.execute(_LINES)
