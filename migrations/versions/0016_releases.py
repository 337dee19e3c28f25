"""How often a person has released an invoice that was parked: what is asked of Stripe afterwards is new."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0013"


def upgrade() -> None:
    op.add_column(
        "invoices", sa.Column("releases", sa.Integer, nullable=False, server_default="0"), schema="tenant"
    )


def downgrade() -> None:
    op.drop_column("invoices", "releases", schema="tenant")
