"""Texts that PostgreSQL compares byte by byte, as SQLite does; comments on all tables.

Then both give the same order, and an upgrade of the operating system, which may change how a
language sorts, damages no index.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LOST_BY_DOWNGRADE = "nothing"

_COMMENTS = {
    "deliveries": "Which files came when, for which partition; other bytes of one name are "
    "another row.",
    "reports": "What each report file gave to a partition: lines, money by currency, control "
    "total, pools. Amounts are decimal texts.",
    "adjudications": "What people decided about open usage, in order; only ever added to.",
    "batch_subjects": "What in a matched batch was decided by name or rule, or left open: which "
    "batches a decision touches.",
    "log_leaves": "The log, only ever added to: what was committed, in order, and its Merkle "
    "tree. content is a line a table (name, rows, SHA-256), or empty where it is "
    "not rows.",
    "checkpoints": "The log as it was signed, from 1: C2SP signed notes, each naming the one "
    "before.",
}
"""What the tables of 0002 to 0004 are, for who looks at the database; SQLite keeps no comments."""


def _collate(collation: str) -> None:
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    schema = connection.scalar(sa.text("SELECT current_schema()"))
    for table in inspector.get_table_names(schema=schema):
        texts = [
            f'ALTER COLUMN "{column["name"]}" TYPE '
            f"{column['type'].compile(connection.dialect).partition(' COLLATE ')[0]} "
            f"COLLATE {collation}"
            for column in inspector.get_columns(table, schema=schema)
            if isinstance(column["type"], sa.String)
        ]
        if texts and table != "alembic_version":
            op.execute(f'ALTER TABLE "{table}" {", ".join(texts)}')


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    _collate('"C"')
    for table, comment in _COMMENTS.items():
        op.create_table_comment(table, comment)


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _COMMENTS:
        op.drop_table_comment(table)
    _collate('"default"')
