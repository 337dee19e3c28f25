"""Staff list all organizations' corrections and conflicts, newest first."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index("ix_usage_corrections_id", "usage_corrections", ["id"], schema="tenant")
    op.create_index("ix_usage_conflicts_received", "usage_conflicts", ["received_at", "id"], schema="tenant")
