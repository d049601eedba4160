"""The log: leaves, checkpoints, and which leaf answers for a row.

What was there before is logged when the registry is opened (``storage.log.log_what_is_there``).

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LOST_BY_DOWNGRADE = (
    "the log with its signed checkpoints, and that months were closed; going up again logs what is "
    "there anew, and `verify` then says that it is not the log that was signed"
)

_ANSWERED_FOR = ("decisions", "exceptions", "batch_subjects", "deliveries")


def upgrade() -> None:
    op.create_table(
        "log_leaves",
        sa.Column("leaf_index", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(256), nullable=False),
        sa.Column("leaf_hash", sa.String(64), nullable=False),
        sa.Column("subtree_hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("leaf_index", name="pk_log_leaves"),
    )
    op.create_index("ix_log_leaves_kind_subject", "log_leaves", ["kind", "subject"])
    op.create_table(
        "checkpoints",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.String(64), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_checkpoints"),
    )
    for table in _ANSWERED_FOR:
        op.add_column(table, sa.Column("leaf_index", sa.BigInteger))
        op.create_index(f"ix_{table}_leaf_index", table, ["leaf_index"])


def downgrade() -> None:
    for table in _ANSWERED_FOR:
        op.drop_index(f"ix_{table}_leaf_index", table)
        with op.batch_alter_table(table) as altered:
            altered.drop_column("leaf_index")
    op.drop_table("checkpoints")
    op.drop_index("ix_log_leaves_kind_subject", "log_leaves")
    op.drop_table("log_leaves")
