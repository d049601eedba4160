"""The cascade: ISRC → equal title and artist → similar title and artist → exception.

A name is accepted only above a threshold *and* with a margin to the runner-up, and never when
version words or numbers disagree. Whatever is decided must also hold a right at the territory
and date of use. Scores are percentages; they order candidates and are no probability.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from rapidfuzz import fuzz, process

from royalty_assets.domain.catalog import Catalog
from royalty_assets.domain.matching.candidates import CandidateIndex, normal_names
from royalty_assets.domain.territories import TerritorySet

MATCHER_VERSION = "2"
"""Changes whenever a decision may come out differently on the same catalog."""

TITLE_SCORE_MIN = 88.0
ARTIST_SCORE_MIN = 88.0
SCORE_MIN = 90.0
TITLE_SCORE_COMPARED_MIN = 60.0
"""A title farther off than this cannot be accepted, nor come within the margin of one that is."""
MARGIN_MIN = 3.0
_TITLE_WEIGHT = 0.6
_EDITION_PENALTY = 1.0
_VERSION_SCORE_MIN = 90.0
_QUERIES_PER_CHUNK = 2_000

DECISION_SCHEMA: dict[str, pl.DataType] = {
    "recording_id": pl.String(),
    "method": pl.String(),
    "score": pl.Float64(),
    "runner_up_id": pl.String(),
    "runner_up_score": pl.Float64(),
    "margin": pl.Float64(),
    "reason": pl.String(),
}
"""``recording_id`` is null exactly when ``method`` is ``exception``; ``reason`` is then why."""

_NAME_DECISION_SCHEMA = {"title": pl.String(), "artist": pl.String(), **DECISION_SCHEMA}


class Matcher:
    """Decides usage identities against one catalog; remembers the names it has decided."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._isrcs = catalog.recordings.select("isrc", pl.col("recording_id"))
        self._rights = catalog.rights
        self._index: CandidateIndex | None = None
        self._by_name = pl.DataFrame(schema=_NAME_DECISION_SCHEMA)
        self._noted: list[pl.DataFrame] = []

    def decide(self, identities: pl.DataFrame) -> pl.DataFrame:
        """Decide each row of ``usage.USAGE_IDENTITY`` columns; other columns pass through.

        Returns:
            The same rows in the same order, with ``DECISION_SCHEMA``.
        """
        rows = identities.with_row_index("_row")
        by_isrc = rows.join(self._isrcs, on="isrc", how="left").sort("_row")
        found = by_isrc.filter(pl.col("recording_id").is_not_null()).with_columns(
            pl.lit("isrc").alias("method"),
            pl.lit(100.0).alias("score"),
            pl.lit(None, pl.String).alias("runner_up_id"),
            pl.lit(None, pl.Float64).alias("runner_up_score"),
            pl.lit(None, pl.Float64).alias("margin"),
            pl.lit(None, pl.String).alias("reason"),
        )
        named = by_isrc.filter(pl.col("recording_id").is_null()).drop("recording_id")
        self._remember(named.select("title", "artist"))
        by_name = named.join(self._by_name, on=["title", "artist"], how="left")
        columns = ["_row", *identities.columns, *DECISION_SCHEMA]
        decided = pl.concat([found.select(columns), by_name.select(columns)])
        return self._with_rights(decided).sort("_row").drop("_row")

    def note(self, names: pl.DataFrame) -> None:
        """Take note of ``isrc``, ``title``, ``artist`` rows that will have to be decided."""
        unknown = names.unique().join(self._isrcs, on="isrc", how="anti")
        self._noted.append(unknown.select("title", "artist").unique())

    def prepare(self) -> None:
        """Decide the names taken note of in bulk; ``decide`` then finds them decided."""
        if self._noted:
            self._remember(pl.concat(self._noted))
            self._noted.clear()

    def _remember(self, names: pl.DataFrame) -> None:
        new = (
            names.unique()
            .join(self._by_name, on=["title", "artist"], how="anti")
            .sort("title", "artist")
        )
        if new.is_empty():
            return
        if self._index is None:
            self._index = CandidateIndex.build(self._catalog.recordings)
        decided = [
            decide_names(self._index, chunk.rows()) for chunk in new.iter_slices(_QUERIES_PER_CHUNK)
        ]
        self._by_name = pl.concat([self._by_name, *decided])

    def _with_rights(self, decided: pl.DataFrame) -> pl.DataFrame:
        uses = (
            decided.filter(pl.col("recording_id").is_not_null())
            .select("recording_id", "territory", "used_on")
            .unique()
        )
        terms = uses.join(self._rights, on="recording_id").filter(
            (pl.col("valid_from").is_null() | (pl.col("valid_from") <= pl.col("used_on")))
            & (pl.col("valid_to").is_null() | (pl.col("valid_to") >= pl.col("used_on")))
        )
        questions = terms.select("territories", "territory").unique()
        sets = {text: TerritorySet.parse(text) for text in questions["territories"].unique()}
        covered = questions.filter(
            pl.Series([t in sets[text] for text, t in questions.iter_rows()], dtype=pl.Boolean)
        )
        cleared = (
            terms.join(covered, on=["territories", "territory"], how="semi")
            .select("recording_id", "territory", "used_on")
            .unique()
            .with_columns(pl.lit(True).alias("_cleared"))
        )
        refused = pl.col("recording_id").is_not_null() & pl.col("_cleared").is_null()
        return (
            decided.join(cleared, on=["recording_id", "territory", "used_on"], how="left")
            .with_columns(
                pl.when(refused)
                .then(pl.col("recording_id"))
                .otherwise(pl.col("runner_up_id"))
                .alias("runner_up_id"),
                pl.when(refused)
                .then(pl.lit("no_right_at_territory_and_date"))
                .otherwise(pl.col("reason"))
                .alias("reason"),
                pl.when(refused)
                .then(pl.lit("exception"))
                .otherwise(pl.col("method"))
                .alias("method"),
                pl.when(refused)
                .then(pl.lit(None, pl.String))
                .otherwise(pl.col("recording_id"))
                .alias("recording_id"),
            )
            .drop("_cleared")
        )


def decide_names(index: CandidateIndex, names: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Decide distinct (title, artist) pairs by name alone (``title``, ``artist``, decision)."""
    queries = normal_names(names).with_row_index("query")
    scored = _score(index, queries)
    best = scored.sort(
        ["query", "score", "recording_id"], descending=[False, True, False]
    ).with_columns(pl.int_range(pl.len()).over("query").alias("rank"))
    first = best.filter(pl.col("rank") == 0).drop("rank")
    second = best.filter(pl.col("rank") == 1).select(
        "query",
        pl.col("recording_id").alias("runner_up_id"),
        pl.col("score").alias("runner_up_score"),
    )
    decided = (
        queries.select("query", "title", "artist")
        .join(first, on="query", how="left")
        .join(second, on="query", how="left")
        .with_columns((pl.col("score") - pl.col("runner_up_score")).round(2).alias("margin"))
        .with_columns(_reason().alias("reason"))
        .with_columns(_method().alias("method"))
        .sort("query")
    )
    # The candidate that came nearest is worth telling even where it was not accepted.
    unaccepted = pl.col("method") == "exception"
    return decided.with_columns(
        pl.when(unaccepted)
        .then(pl.col("recording_id"))
        .otherwise(pl.col("runner_up_id"))
        .alias("runner_up_id"),
        pl.when(unaccepted)
        .then(pl.lit(None, pl.String))
        .otherwise(pl.col("recording_id"))
        .alias("recording_id"),
    ).select(_NAME_DECISION_SCHEMA.keys())


def _score(index: CandidateIndex, queries: pl.DataFrame) -> pl.DataFrame:
    pairs = (
        index.pairs(queries)
        .join(queries.drop("title", "artist"), on="query")
        .join(index.names.drop("title", "artist"), on="candidate", suffix="_known")
    )
    title_score = _pairwise(pairs["core"], pairs["core_known"])
    near = title_score >= TITLE_SCORE_COMPARED_MIN
    pairs, title_score = pairs.filter(pl.Series(near, dtype=pl.Boolean)), title_score[near]
    artist_score = _artist_scores(pairs)
    version_score = np.where(
        (pairs["version"] == pairs["version_known"]).to_numpy(),
        100.0,
        _pairwise(pairs["version"], pairs["version_known"]),
    )
    both = _TITLE_WEIGHT * title_score + (1 - _TITLE_WEIGHT) * artist_score
    return pairs.select(
        "query",
        "recording_id",
        pl.Series("title_score", title_score),
        pl.Series("artist_score", artist_score),
        pl.Series("version_agrees", version_score >= _VERSION_SCORE_MIN) & _guests_agree(),
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


def _guests_agree() -> pl.Expr:
    """Not so where one side was recorded with a guest and the other knows of nobody."""

    def alone(suffix: str) -> pl.Expr:
        no_guest = pl.col(f"guest{suffix}") == ""
        return no_guest & ~pl.col(f"credits{suffix}").str.contains("|", literal=True)

    here, there = (pl.col("guest") == "with"), (pl.col("guest_known") == "with")
    return ~((here & alone("_known")) | (there & alone("")))


def _pairwise(left: pl.Series, right: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if left.is_empty():
        return np.empty(0)
    return process.cpdist(
        left.to_list(), right.to_list(), scorer=fuzz.token_sort_ratio, dtype=np.float64
    )


def _artist_scores(pairs: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The best of: all credits compared, or either first credit with any credit of the other."""
    whole = _pairwise(
        pairs["credits"].str.replace_all("|", " ", literal=True),
        pairs["credits_known"].str.replace_all("|", " ", literal=True),
    )
    listed = [
        max(
            max((fuzz.ratio(first, credit) for credit in known.split("|")), default=0.0),
            max((fuzz.ratio(first_known, credit) for credit in sent.split("|")), default=0.0),
        )
        if first and first_known
        else 0.0
        for first, sent, first_known, known in pairs.select(
            "first_credit", "credits", "first_credit_known", "credits_known"
        ).iter_rows()
    ]
    return np.maximum(whole, np.array(listed, dtype=np.float64))


def _reason() -> pl.Expr:
    equal = pl.col("equal").fill_null(False)
    return (
        pl.when(pl.col("title").str.len_chars() == 0)
        .then(pl.lit("isrc_unknown"))
        .when(pl.col("score").is_null())
        .then(pl.lit("no_candidate"))
        .when(
            (pl.col("title_score") < TITLE_SCORE_MIN)
            | (pl.col("artist_score") < ARTIST_SCORE_MIN)
            | (pl.col("both") < SCORE_MIN)
        )
        .then(pl.lit("too_different"))
        .when(~pl.col("numbers_agree"))
        .then(pl.lit("number_in_title_differs"))
        .when(~pl.col("version_agrees"))
        .then(pl.lit("version_differs"))
        .when((pl.col("margin") < MARGIN_MIN) & ~(equal & (pl.col("margin") > 0)))
        .then(pl.lit("ambiguous"))
    )


def _method() -> pl.Expr:
    return (
        pl.when(pl.col("reason").is_not_null())
        .then(pl.lit("exception"))
        .when(pl.col("equal"))
        .then(pl.lit("title_artist_equal"))
        .otherwise(pl.lit("title_artist_similar"))
    )
