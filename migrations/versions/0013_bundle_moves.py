"""A change may move a subscription to another version of its bundle."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column(
        "subscription_changes",
        sa.Column("bundle_price_id", sa.Uuid, sa.ForeignKey("catalog.bundle_prices.id")),
        schema="tenant",
    )


def downgrade() -> None:
    op.drop_column("subscription_changes", "bundle_price_id", schema="tenant")
