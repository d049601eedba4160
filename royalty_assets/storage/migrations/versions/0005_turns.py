"""Turns: of two runs of one partition, the one that began later commits.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LOST_BY_DOWNGRADE = "who works on which partition"


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("feed", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("partition_key", sa.String(32), nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("feed", "stage", "partition_key", name="pk_turns"),
        comment="Who works on a partition, or last did; nothing that is paid follows from it, and "
        "the log does not answer for it.",
    )


def downgrade() -> None:
    op.drop_table("turns")
