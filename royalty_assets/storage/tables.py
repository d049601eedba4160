"""The registry's tables. A change here needs a migration in ``migrations/versions``."""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _partition() -> tuple[sa.Column[str], ...]:
    return (
        sa.Column("feed", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("partition_key", sa.String(32), nullable=False),
    )


def _answered_for() -> sa.Column[int]:
    """The leaf of the log that answers for a row; none only while the log does not know it."""
    return sa.Column("leaf_index", sa.BigInteger)


batches = sa.Table(
    "batches",
    metadata,
    sa.Column("batch_id", sa.String(160), primary_key=True),
    *_partition(),
    sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
    sa.Column("window_label", sa.String(32), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("input_sha256", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("objects", sa.JSON, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("feed", "stage", "window_label", "revision"),
    sa.Index("ix_batches_feed_stage_partition_key", "feed", "stage", "partition_key"),
    comment="One row per committed batch; never updated.",
)

commits = sa.Table(
    "commits",
    metadata,
    *_partition(),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("input_sha256", sa.String(64), nullable=False),
    sa.Column("batch_ids", sa.JSON, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("checks", sa.JSON, nullable=False),
    sa.Column("warnings", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("is_green", sa.Boolean, nullable=False),
    sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint("feed", "stage", "partition_key", "revision"),
    comment="The revisions of each partition of each stage; the highest one is in force.",
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
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
        "feed", "stage", "partition_key", "revision", "source_sha256", "row_number", "rule"
    ),
    comment="What was refused: which row of which source, by which rule, and why.",
)

turns = sa.Table(
    "turns",
    metadata,
    *_partition(),
    sa.Column("fencing_token", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint("feed", "stage", "partition_key"),
    comment="Who works on a partition, or last did; nothing that is paid follows from it, and the "
    "log does not answer for it.",
)

decisions = sa.Table(
    "decisions",
    metadata,
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
    _answered_for(),
    sa.PrimaryKeyConstraint("usage_key", "catalog_version", "matcher_version"),
    sa.Index("ix_decisions_leaf_index", "leaf_index"),
    comment="Judgements on names: one row per distinct name and catalog, with the batch that first "
    "asked. Every decision of every batch, ISRC matches included, is in its lake object.",
)

exceptions = sa.Table(
    "exceptions",
    metadata,
    sa.Column("batch_id", sa.String(160), nullable=False),
    sa.Column("usage_key", sa.String(64), nullable=False),
    sa.Column("territory", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("isrc", sa.String(64), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("artist", sa.Text, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    _answered_for(),
    sa.PrimaryKeyConstraint("batch_id", "usage_key", "territory", "reason"),
    sa.Index("ix_exceptions_leaf_index", "leaf_index"),
    comment="Usage that awaits a person's decision, by batch.",
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("feed", sa.String(64), nullable=False),
    sa.Column("partition_key", sa.String(32), nullable=False),
    sa.Column("name", sa.String(512), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    _answered_for(),
    sa.PrimaryKeyConstraint("feed", "partition_key", "name", "sha256"),
    sa.Index("ix_deliveries_leaf_index", "leaf_index"),
    comment="Which files came when, for which partition; other bytes of one name are another row.",
)

reports = sa.Table(
    "reports",
    metadata,
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
    sa.PrimaryKeyConstraint("feed", "partition_key", "revision", "source_sha256"),
    comment="What each report file gave to a partition: lines, money by currency, control total, "
    "pools. Amounts are decimal texts.",
)

adjudications = sa.Table(
    "adjudications",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
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
    sa.Index("ix_adjudications_subject", "subject"),
    comment="What people decided about open usage, in order; only ever added to.",
)

batch_subjects = sa.Table(
    "batch_subjects",
    metadata,
    sa.Column("batch_id", sa.String(160), nullable=False),
    sa.Column("subject", sa.String(160), nullable=False),
    _answered_for(),
    sa.PrimaryKeyConstraint("batch_id", "subject"),
    sa.Index("ix_batch_subjects_leaf_index", "leaf_index"),
    sa.Index("ix_batch_subjects_subject", "subject"),
    comment="What in a matched batch was decided by name or rule, or left open: which batches a "
    "decision touches.",
)

log_leaves = sa.Table(
    "log_leaves",
    metadata,
    sa.Column("leaf_index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("subject", sa.String(256), nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("content_sha256", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(256), nullable=False),
    sa.Column("leaf_hash", sa.String(64), nullable=False),
    sa.Column("subtree_hash", sa.String(64), nullable=False),
    sa.Index("ix_log_leaves_kind_subject", "kind", "subject"),
    comment="The log, only ever added to: what was committed, in order, and its Merkle tree. "
    "content is a line a table (name, rows, SHA-256), or empty where it is not rows.",
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.String(64), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
    comment="The log as it was signed, from 1: C2SP signed notes, each naming the one before.",
)
