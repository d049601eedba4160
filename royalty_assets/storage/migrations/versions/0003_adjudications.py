"""Decisions of people, and which batches they touch.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LOST_BY_DOWNGRADE = "what people decided, and which batches a decision touches"


def upgrade() -> None:
    op.create_table(
        "adjudications",
        sa.Column("number", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("subject", sa.String(160), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recording_id", sa.String(64)),
        sa.Column("until", sa.Date),
        sa.Column("refers_to", sa.Integer),
        sa.Column("needs_second", sa.Boolean, nullable=False),
        sa.Column("told", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_adjudications"),
    )
    op.create_index("ix_adjudications_subject", "adjudications", ["subject"])
    op.create_table(
        "batch_subjects",
        sa.Column("batch_id", sa.String(160), nullable=False),
        sa.Column("subject", sa.String(160), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "subject", name="pk_batch_subjects"),
    )
    op.create_index("ix_batch_subjects_subject", "batch_subjects", ["subject"])


def downgrade() -> None:
    op.drop_table("batch_subjects")
    op.drop_table("adjudications")
