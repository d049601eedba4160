"""Who listened to what, counted: what models need that look at each listener.

What belongs here: the aggregate and the pseudonyms in it. What does not: what a model makes of it
(``allocation``).
"""

import hashlib

import polars as pl

from royalty_assets.domain.usage import USAGE_IDENTITY

LISTENING_SCHEMA: dict[str, pl.DataType] = {
    "feed": pl.String(),
    "territory": pl.String(),
    "tier": pl.String(),
    "use_type": pl.String(),
    "listener": pl.String(),
    "recording_id": pl.String(),
    "reason": pl.String(),
    "units": pl.Int64(),
}
"""Plays by listener, as ``ledger.MATCHED_USAGE_COLUMNS`` tell them apart: ``recording_id`` is null
where none was found, ``reason`` where one was. ``listener`` is a pseudonym, 32 hexadecimal digits.
In order of all columns but the last, which that makes unique."""

LISTENING_KEY = [name for name in LISTENING_SCHEMA if name != "units"]
_PSEUDONYM_LENGTH = 32


def listener_pseudonyms(feed: str, user_ids: pl.Series) -> pl.Series:
    """The names that a feed's users go by: the first half of SHA-256 over feed and user id.

    They are the same wherever they are derived again, from the lines and nothing else. Who has
    the ids can therefore tell whose they are: they are pseudonyms, and nobody is anonymous.
    """
    distinct = user_ids.unique()
    names = [
        hashlib.sha256(f"{feed}\t{user}".encode()).hexdigest()[:_PSEUDONYM_LENGTH]
        for user in distinct.to_list()
    ]
    return user_ids.replace_strict(distinct, pl.Series(names, dtype=pl.String))


def count_listening(feed: str, lines: pl.DataFrame, usage: pl.DataFrame) -> pl.DataFrame:
    """Plays by listener and recording.

    Args:
        feed: that the lines are of.
        lines: ``user_id``, ``used_at``, ``units`` and ``USAGE_IDENTITY``'s other columns of
            ``usage.USAGE_LINE_SCHEMA``.
        usage: what was decided of them: ``USAGE_IDENTITY``, ``recording_id`` and ``reason``.

    Returns:
        ``LISTENING_SCHEMA``.
    """
    decided = usage.select(*USAGE_IDENTITY, "recording_id", "reason")
    played = (
        lines.with_columns(pl.col("used_at").dt.date().alias("used_on"))
        .group_by("user_id", *USAGE_IDENTITY)
        .agg(pl.col("units").sum())
        .join(decided, on=USAGE_IDENTITY, how="inner", nulls_equal=True)
        .with_columns(pl.lit(feed).alias("feed"))
    )
    named = played.with_columns(listener_pseudonyms(feed, played["user_id"]).alias("listener"))
    return fold_listening(named)


def fold_listening(listening: pl.DataFrame) -> pl.DataFrame:
    """Listening summed and in canonical order."""
    return (
        listening.group_by(LISTENING_KEY)
        .agg(pl.col("units").sum())
        .select(LISTENING_SCHEMA.keys())
        .sort(LISTENING_KEY, nulls_last=False)
    )
