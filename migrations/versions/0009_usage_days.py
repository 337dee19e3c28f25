"""Usage accounts by product and day, kept so that nobody counts every event again to look at them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_COUNTS = ("accepted", "rated", "waiting", "quarantined", "duplicate")
# Work that gave up is counted at each look, and is a handful.
_DEAD = ("jobs", "webhook_inbox", "usage_inbox")


def upgrade() -> None:
    op.create_table(
        "usage_days",
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.Column("unbalanced", sa.Integer(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"], ["catalog.products.id"], name=op.f("fk_usage_days_product_id")
        ),
        sa.PrimaryKeyConstraint("product_id", "day", name=op.f("pk_usage_days")),
        schema="ops",
    )
    op.create_index(
        "ix_usage_inbox_received",
        "usage_inbox",
        ["received_at"],
        schema="ops",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    for table in _DEAD:
        op.create_index(
            f"ix_{table}_dead", table, ["id"], schema="ops", postgresql_where=sa.text("state = 'dead'")
        )
    op.execute("GRANT SELECT, INSERT, UPDATE ON ops.usage_days TO dunlin_app")
    op.execute("GRANT SELECT ON ops.usage_days TO dunlin_auditor")
