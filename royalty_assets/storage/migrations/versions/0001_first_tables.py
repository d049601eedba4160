"""Batches, commits, dead letters, decisions and exceptions.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LOST_BY_DOWNGRADE = "everything: there are no tables before it"


def _partition() -> tuple[sa.Column[str], ...]:
    return (
        sa.Column("feed", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("partition_key", sa.String(32), nullable=False),
    )


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String(160), nullable=False),
        *_partition(),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_label", sa.String(32), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("input_sha256", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("objects", sa.JSON, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", name="pk_batches"),
        sa.UniqueConstraint(
            "feed",
            "stage",
            "window_label",
            "revision",
            name="uq_batches_feed_stage_window_label_revision",
        ),
        comment="One row per committed batch; never updated.",
    )
    op.create_index(
        "ix_batches_feed_stage_partition_key", "batches", ["feed", "stage", "partition_key"]
    )
    op.create_table(
        "commits",
        *_partition(),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("input_sha256", sa.String(64), nullable=False),
        sa.Column("batch_ids", sa.JSON, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("checks", sa.JSON, nullable=False),
        sa.Column("is_green", sa.Boolean, nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("feed", "stage", "partition_key", "revision", name="pk_commits"),
        comment="The revisions of each partition of each stage; the highest one is in force.",
    )
    op.create_table(
        "dead_letters",
        *_partition(),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("source_sha256", sa.String(64), nullable=False),
        sa.Column("row_number", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(512), nullable=False),
        sa.Column("rule", sa.String(128), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(
            "feed",
            "stage",
            "partition_key",
            "revision",
            "source_sha256",
            "row_number",
            "rule",
            name="pk_dead_letters",
        ),
        comment="What was refused: which row of which source, by which rule, and why.",
    )
    op.create_table(
        "decisions",
        sa.Column("usage_key", sa.String(64), nullable=False),
        sa.Column("catalog_version", sa.String(64), nullable=False),
        sa.Column("matcher_version", sa.String(16), nullable=False),
        sa.Column("isrc", sa.String(64), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("artist", sa.Text, nullable=False),
        sa.Column("recording_id", sa.String(64)),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("runner_up_id", sa.String(64)),
        sa.Column("runner_up_score", sa.Float),
        sa.Column("margin", sa.Float),
        sa.Column("reason", sa.String(64)),
        sa.Column("batch_id", sa.String(160), nullable=False),
        sa.Column("batch_sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint(
            "usage_key", "catalog_version", "matcher_version", name="pk_decisions"
        ),
        comment="Judgements on names: one row per distinct name and catalog, with the batch that "
        "first asked. Every decision of every batch, ISRC matches included, is in its lake object.",
    )
    op.create_table(
        "exceptions",
        sa.Column("batch_id", sa.String(160), nullable=False),
        sa.Column("usage_key", sa.String(64), nullable=False),
        sa.Column("territory", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("isrc", sa.String(64), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("artist", sa.Text, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "batch_id", "usage_key", "territory", "reason", name="pk_exceptions"
        ),
        comment="Usage that awaits a person's decision, by batch.",
    )


def downgrade() -> None:
    for table in ("exceptions", "decisions", "dead_letters", "commits", "batches"):
        op.drop_table(table)
