"""How much alike a name and its candidates are: title, artist, version, numbers, edition.

Scores are percentages of rapidfuzz. What follows from them is ``cascade``'s.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from royalty_assets.domain.matching.candidates import TITLE_SCORE_COMPARED_MIN, CandidateIndex

_TITLE_WEIGHT = 0.6
_EDITION_PENALTY = 1.0
_VERSION_SCORE_MIN = 90.0


def score_candidates(index: CandidateIndex, queries: pl.DataFrame) -> pl.DataFrame:
    """Each query with each of its candidates, and how much alike they are.

    Args:
        index: of the catalog.
        queries: normal names with a ``query`` row number.

    Returns:
        query, recording_id, title_score, artist_score, version_agrees, numbers_agree, both,
        same_edition, score, equal.
    """
    pairs = index.pairs(queries)
    pairs = pairs.join(
        queries.drop("title", "artist"), on="query", how="left", maintain_order="left"
    )
    known = index.names[pairs["candidate"]].select(
        pl.col("recording_id"), pl.exclude("candidate", "recording_id").name.suffix("_known")
    )
    pairs = pl.concat([pairs, known], how="horizontal")
    title_score = pairwise(pairs["core"], pairs["core_known"])
    near = title_score >= TITLE_SCORE_COMPARED_MIN
    pairs, title_score = pairs.filter(pl.Series(near, dtype=pl.Boolean)), title_score[near]
    artist_score = _artist_scores(pairs)
    both = _TITLE_WEIGHT * title_score + (1 - _TITLE_WEIGHT) * artist_score
    return pairs.select(
        "query",
        "recording_id",
        pl.Series("title_score", title_score),
        pl.Series("artist_score", artist_score),
        pl.Series("version_agrees", _versions_agree(pairs), dtype=pl.Boolean) & guests_agree(),
        (pl.col("numbers") == pl.col("numbers_known")).alias("numbers_agree"),
        pl.Series("both", both),
        (pl.col("edition") == pl.col("edition_known")).alias("same_edition"),
    ).with_columns(
        # What disagrees in version or number is ranked below all that agrees, and still told.
        (
            pl.col("both")
            - pl.when("same_edition").then(0.0).otherwise(_EDITION_PENALTY)
            - pl.when(pl.col("version_agrees") & pl.col("numbers_agree")).then(0.0).otherwise(25.0)
        )
        .clip(lower_bound=0.0)
        .round(2)
        .alias("score"),
        (
            (pl.col("both") == 100.0)
            & pl.col("same_edition")
            & pl.col("version_agrees")
            & pl.col("numbers_agree")
        ).alias("equal"),
    )


def _versions_agree(pairs: pl.DataFrame) -> NDArray[np.bool_]:
    agree = (pairs["version"] == pairs["version_known"]).to_numpy().copy()
    # Most are equal or on one side only.
    both = ~agree & ((pairs["version"] != "") & (pairs["version_known"] != "")).to_numpy()
    there = pairs.select("version", "version_known").filter(pl.Series(both, dtype=pl.Boolean))
    agree[both] = pairwise(there["version"], there["version_known"]) >= _VERSION_SCORE_MIN
    return agree


def guests_agree() -> pl.Expr:
    """Not so where one side was recorded with a guest and the other knows of nobody."""

    def alone(suffix: str) -> pl.Expr:
        no_guest = pl.col(f"guest{suffix}") == ""
        return no_guest & ~pl.col(f"credits{suffix}").str.contains("|", literal=True)

    here, there = (pl.col("guest") == "with"), (pl.col("guest_known") == "with")
    return ~((here & alone("_known")) | (there & alone("")))


def pairwise(
    left: pl.Series, right: pl.Series, *, words_in_order: bool = False
) -> NDArray[np.float64]:
    """How much alike the texts of each row are, in percent; words in any order unless said."""
    if left.is_empty():
        return np.empty(0)
    return process.cpdist(
        left.to_list(),
        right.to_list(),
        scorer=fuzz.ratio if words_in_order else fuzz.token_sort_ratio,
        dtype=np.float64,
    )


def _artist_scores(pairs: pl.DataFrame) -> NDArray[np.float64]:
    """The best of: all credits compared, or either first credit with any credit of the other."""
    columns = ("first_credit", "credits", "first_credit_known", "credits_known")
    asked = pairs.select(columns)
    distinct = asked.unique(["credits", "credits_known"], maintain_order=True)
    distinct = distinct.with_row_index("artists")
    whole = pairwise(
        distinct["credits"].str.replace_all("|", " ", literal=True),
        distinct["credits_known"].str.replace_all("|", " ", literal=True),
    )
    named = distinct.filter((pl.col("first_credit") != "") & (pl.col("first_credit_known") != ""))
    listed = pl.concat(
        named.select(
            "artists", pl.col(first).alias("first"), pl.col(others).str.split("|").alias("credit")
        )
        for first, others in (("first_credit", "credits_known"), ("first_credit_known", "credits"))
    ).explode("credit")
    scores = whole
    np.maximum.at(
        scores,
        listed["artists"].to_numpy(),
        pairwise(listed["first"], listed["credit"], words_in_order=True),
    )
    return (
        asked.join(
            distinct.select("credits", "credits_known", pl.Series("artist_score", scores)),
            on=["credits", "credits_known"],
            how="left",
            maintain_order="left",
        )["artist_score"]
        .to_numpy()
        .copy()
    )
