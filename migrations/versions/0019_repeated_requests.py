"""Until when somebody works on a request with an idempotency key; one that failed keeps its row and its id."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column(
        "idempotent_answers", sa.Column("claimed_until_at", sa.DateTime(timezone=True)), schema="ops"
    )


def downgrade() -> None:
    op.drop_column("idempotent_answers", "claimed_until_at", schema="ops")
