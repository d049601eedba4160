"""Which recordings are worth comparing with a name: an index of the catalog by blocking keys.

A pair is compared when it shares a key: a title word that is rare in the catalog, the first
credited artist, or the first letters of title and artist together (which survives a typo in
every word). A key that more than ``KEY_POSTINGS_MAX`` recordings share tells nothing and is left
out; the two other kinds remain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from royalty_assets.domain.matching.normalise import normalise_credits, normalise_title

KEY_POSTINGS_MAX = 200
_WORDS_PER_NAME_MAX = 12

NAME_SCHEMA: dict[str, pl.DataType] = {
    "title": pl.String(),
    "artist": pl.String(),
    "core": pl.String(),
    "version": pl.String(),
    "edition": pl.String(),
    "numbers": pl.String(),
    "guest": pl.String(),
    "first_credit": pl.String(),
    "credits": pl.String(),
}


def normal_names(names: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Each (title, artist) with its normal form, ``NAME_SCHEMA``, in the order given."""
    rows = []
    for title, artist in names:
        parts = normalise_title(title)
        credited = normalise_credits(artist)
        rows.append(
            (
                title,
                artist,
                parts.core,
                parts.version,
                parts.edition,
                parts.numbers,
                parts.guest,
                credited[0] if credited else "",
                "|".join(credited),
            )
        )
    return pl.DataFrame(rows, schema=NAME_SCHEMA, orient="row")


def blocking_keys(names: pl.DataFrame, index: str) -> pl.DataFrame:
    """(``index``, key) for every key of every name; keys of different kinds never collide."""
    title_words = names.select(
        index, pl.col("core").str.split(" ").list.head(_WORDS_PER_NAME_MAX).alias("key")
    ).explode("key")
    return pl.concat(
        [
            title_words.filter(pl.col("key").str.len_chars() > 1).with_columns(
                ("t:" + pl.col("key")).alias("key")
            ),
            names.select(index, ("a:" + pl.col("first_credit")).alias("key")),
            names.select(
                index,
                (
                    "p:"
                    + pl.col("core").str.slice(0, 3)
                    + ":"
                    + pl.col("first_credit").str.slice(0, 3)
                ).alias("key"),
            ),
        ]
    ).unique()


@dataclass(frozen=True, slots=True)
class CandidateIndex:
    """The catalog by blocking key.

    Attributes:
        names: ``NAME_SCHEMA`` plus ``recording_id`` and ``candidate`` (its row number).
        postings: (key, candidate).
    """

    names: pl.DataFrame
    postings: pl.DataFrame

    @classmethod
    def build(cls, recordings: pl.DataFrame) -> "CandidateIndex":
        """Index recordings given as ``catalog.RECORDING_SCHEMA``."""
        names = normal_names(recordings.select("title", "artist").rows())
        names = names.with_columns(recordings["recording_id"]).with_row_index("candidate")
        postings = blocking_keys(names, "candidate")
        telling = postings.filter(pl.len().over("key") <= KEY_POSTINGS_MAX)
        return cls(names, telling)

    def pairs(self, queries: pl.DataFrame) -> pl.DataFrame:
        """(query, candidate) pairs worth comparing, for names with a ``query`` row number."""
        keys = blocking_keys(queries, "query")
        return (
            keys.join(self.postings, on="key").select("query", "candidate").unique().sort(pl.all())
        )
