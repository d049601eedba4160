"""Deliveries, reports, and checks that warn.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LOST_BY_DOWNGRADE = "when files came, what each report gave, and the warnings of checks"


def upgrade() -> None:
    with op.batch_alter_table("commits") as commits:
        commits.add_column(sa.Column("warnings", sa.JSON, nullable=False, server_default="{}"))
    op.create_table(
        "deliveries",
        sa.Column("feed", sa.String(64), nullable=False),
        sa.Column("partition_key", sa.String(32), nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("feed", "partition_key", "name", "sha256", name="pk_deliveries"),
    )
    op.create_table(
        "reports",
        sa.Column("feed", sa.String(64), nullable=False),
        sa.Column("partition_key", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("message", sa.JSON, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("money", sa.JSON, nullable=False),
        sa.Column("stated_amount", sa.String(64)),
        sa.Column("notes", sa.JSON, nullable=False),
        sa.Column("pools", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint(
            "feed", "partition_key", "revision", "source_sha256", name="pk_reports"
        ),
    )


def downgrade() -> None:
    op.drop_table("reports")
    op.drop_table("deliveries")
    with op.batch_alter_table("commits") as commits:
        commits.drop_column("warnings")
