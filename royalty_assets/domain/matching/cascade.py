"""The cascade: ISRC → UPC and title → equal title and artist → rule → similar ones → exception.

A rule is what a person decided about an ISRC that is unknown, or a name that comes without one.

A name is accepted only above a threshold *and* with a margin to the runner-up, and never when
version words or numbers disagree. Whatever is decided must also hold a right at the territory
and date of use. Scores are percentages; they order candidates and are no probability.
"""

import hashlib
from collections.abc import Callable, Sequence

import polars as pl

from royalty_assets.domain.adjudication import Rule
from royalty_assets.domain.catalog import Catalog
from royalty_assets.domain.identifiers import ISRC_PATTERN
from royalty_assets.domain.matching.candidates import (
    TITLE_SCORE_COMPARED_MIN,
    CandidateIndex,
    normal_names,
)
from royalty_assets.domain.matching.releases import ReleaseIndex
from royalty_assets.domain.matching.scoring import pairwise, score_candidates
from royalty_assets.domain.territories import TerritorySet

MATCHER_VERSION = "4"
"""Changes whenever a decision may come out differently on the same catalog."""

TITLE_SCORE_MIN = 88.0
ARTIST_SCORE_MIN = 88.0
SCORE_MIN = 90.0
MARGIN_MIN = 3.0
_QUERIES_PER_CHUNK = 2_000
_SUBJECT_BYTES_MAX = 150

DECISION_SCHEMA: dict[str, pl.DataType] = {
    "recording_id": pl.String(),
    "method": pl.String(),
    "score": pl.Float64(),
    "runner_up_id": pl.String(),
    "runner_up_score": pl.Float64(),
    "margin": pl.Float64(),
    "levels": pl.String(),
    "reason": pl.String(),
    "rule_id": pl.String(),
    "subject": pl.String(),
}
"""``recording_id`` is null exactly when ``method`` is ``exception``; ``reason`` is then why.
``levels`` says how near each field came (``title:similar artist:equal …``); ``subject`` is what a
person's decision would settle, null where an ISRC decided; ``rule_id`` names the rule that did."""

METHODS = (
    "rule",
    "isrc",
    "upc_title",
    "title_artist_equal",
    "title_artist_similar",
    "title_artist_album",
    "exception",
)
REJECTED = "rejected_by_rule"
"""The reason of usage that a person has said is none of the catalog's."""
RECORDING_GONE = "rule_names_no_recording"
"""The reason of usage that a person decided to be a recording that the catalog has no more."""

_NAME_DECISION_SCHEMA = {
    "title": pl.String(),
    "artist": pl.String(),
    **{name: dtype for name, dtype in DECISION_SCHEMA.items() if name != "rule_id"},
}


class Matcher:
    """Decides usage identities against one catalog; remembers the names it has decided."""

    def __init__(
        self,
        catalog: Catalog,
        index_of: Callable[[pl.DataFrame], CandidateIndex] = CandidateIndex.build,
    ) -> None:
        """Decide against ``catalog``; ``index_of`` its recordings may be one that is kept."""
        self._catalog = catalog
        self._index_of = index_of
        self._isrcs = catalog.recordings.select("isrc", pl.col("recording_id"))
        self._ids = frozenset(catalog.recordings["recording_id"])
        self._rights = catalog.rights
        self._index: CandidateIndex | None = None
        self._releases: ReleaseIndex | None = None
        self._by_name = pl.DataFrame(schema=_NAME_DECISION_SCHEMA)
        self._noted: list[pl.DataFrame] = []

    def decide(self, identities: pl.DataFrame, rules: Sequence[Rule] = ()) -> pl.DataFrame:
        """Decide each row of ``usage.USAGE_IDENTITY`` columns; other columns pass through.

        Args:
            identities: the usage.
            rules: what people have decided, in force.

        Returns:
            The same rows in the same order, with ``DECISION_SCHEMA``.
        """
        columns = ["_row", *identities.columns, *DECISION_SCHEMA]
        by_isrc = identities.with_row_index("_row").join(
            self._isrcs, on="isrc", how="left", maintain_order="left"
        )
        found = by_isrc.filter(pl.col("recording_id").is_not_null()).with_columns(
            *_undecided(("method", "score")),
            pl.lit("isrc").alias("method"),
            pl.lit(100.0).alias("score"),
        )
        rest = by_isrc.filter(pl.col("recording_id").is_null()).drop("recording_id")
        self._remember(rest.select("title", "artist"))
        named = self._with_releases(self._named(rest))
        named = self._with_rules(named, rules)
        decided = pl.concat([part.select(columns) for part in (found, named)])
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

    def candidates(self, title: str, artist: str, limit: int = 10) -> pl.DataFrame:
        """The recordings that come nearest to a name, for a person to choose from.

        Returns:
            ``recording_id``, ``score``, ``title_score``, ``artist_score`` and ``levels``, best
            first.
        """
        queries = normal_names([(title, artist)]).with_row_index("query")
        scored = score_candidates(self._candidate_index(), queries)
        return (
            scored.sort(["score", "recording_id"], descending=[True, False])
            .head(limit)
            .with_columns(_levels())
            .select("recording_id", "score", "title_score", "artist_score", "levels")
        )

    def disagreements(self, decided: pl.DataFrame) -> pl.DataFrame:
        """Usage that an ISRC decided and that the catalog calls otherwise.

        Args:
            decided: what ``decide`` gave, with ``units``.

        Returns:
            ``isrc``, ``title``, ``artist``, ``recording_id``, ``title_known``, ``artist_known``
            and ``units``, most units first.
        """
        named = (
            decided.filter((pl.col("method") == "isrc") & (pl.col("title") != ""))
            .group_by("isrc", "title", "artist", "recording_id")
            .agg(pl.col("units").sum())
        )
        known = self._catalog.recordings.select("recording_id", "title", "artist")
        both = named.join(known, on="recording_id", suffix="_known")
        # Most usage says just what the catalog says, and need not be brought to a normal form.
        other = pl.col("title").str.to_lowercase() != pl.col("title_known").str.to_lowercase()
        both = both.filter(other).sort(
            "units", "isrc", "title", "artist", descending=[True] + 3 * [False]
        )
        said = normal_names(both.select("title", "artist").rows())["core"]
        there = normal_names(both.select("title_known", "artist_known").rows())["core"]
        score = pairwise(said, there)
        far = pl.Series(score < TITLE_SCORE_COMPARED_MIN, dtype=pl.Boolean)
        return both.filter(far).select(
            "isrc", "title", "artist", "recording_id", "title_known", "artist_known", "units"
        )

    def _candidate_index(self) -> CandidateIndex:
        if self._index is None:
            self._index = self._index_of(self._catalog.recordings)
        return self._index

    def _remember(self, names: pl.DataFrame) -> None:
        new = (
            names.unique()
            .join(self._by_name, on=["title", "artist"], how="anti")
            .sort("title", "artist")
        )
        if new.is_empty():
            return
        index = self._candidate_index()
        decided = [
            decide_names(index, chunk.rows()) for chunk in new.iter_slices(_QUERIES_PER_CHUNK)
        ]
        self._by_name = pl.concat([self._by_name, *decided])

    def _with_rules(self, named: pl.DataFrame, rules: Sequence[Rule]) -> pl.DataFrame:
        """Usage whose subject a person has decided about.

        What identifiers, a release or equal names decide, a rule leaves alone: it answers what was
        open, and goes before likeness. One for a recording that is gone only says so.
        """
        rows = [
            (
                rule.subject,
                rule.rule_id,
                rule.recording_id,
                REJECTED if rule.recording_id is None else None,
            )
            for rule in rules
            if rule.recording_id is None or rule.recording_id in self._ids
        ]
        gone = [
            (rule.subject, rule.rule_id, None, RECORDING_GONE)
            for rule in rules
            if rule.recording_id is not None and rule.recording_id not in self._ids
        ]
        open_now = ["exception"]
        named = _ruled(named, rows, [*open_now, "title_artist_similar"])
        return _ruled(named, gone, open_now)

    def _named(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Usage of no known ISRC with what its name was decided to be, and its subject."""
        by_name = rows.join(
            self._by_name, on=["title", "artist"], how="left", maintain_order="left"
        )
        return by_name.with_columns(
            _subject().alias("subject"), pl.lit(None, pl.String).alias("rule_id")
        ).with_columns(_shortened_all(pl.col("subject")))

    def _with_releases(self, named: pl.DataFrame) -> pl.DataFrame:
        """Usage whose release decides what its name alone did not, or before that."""
        tells = (pl.col("upc").fill_null("") != "") | (pl.col("release_title").fill_null("") != "")
        if not named.select(tells.any()).item():
            return named
        if self._releases is None:
            self._releases = ReleaseIndex(self._catalog.recordings)
        by_upc = self._releases.by_upc(
            named.filter(pl.col("upc") != "").select("upc", "title", "artist").unique()
        ).with_columns(
            pl.lit("upc_title").alias("method"),
            pl.lit(None, pl.String).alias("reason"),
            pl.lit(None, pl.String).alias("levels"),
        )
        named = _overridden(named, by_upc, ["upc", "title", "artist"])
        uses = named.filter(
            (pl.col("reason") == "ambiguous") & (pl.col("release_title").fill_null("") != "")
        ).select("title", "artist", "release_title")
        by_title = self._releases.by_release_title(uses.unique()).with_columns(
            pl.lit("title_artist_album").alias("method"), pl.lit(None, pl.String).alias("reason")
        )
        return _overridden(named, by_title, ["title", "artist", "release_title"])

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
                pl.when(refused)
                .then(pl.col("score"))
                .otherwise(pl.col("runner_up_score"))
                .alias("runner_up_score"),
            )
            .drop("_cleared")
        )


def _undecided(but: Sequence[str]) -> list[pl.Expr]:
    """Every decision column empty, but for these and the recording."""
    return [
        pl.lit(None, dtype).alias(name)
        for name, dtype in DECISION_SCHEMA.items()
        if name not in {*but, "recording_id"}
    ]


def _ruled(
    rows: pl.DataFrame,
    rules: Sequence[tuple[str, str, str | None, str | None]],
    methods: list[str],
) -> pl.DataFrame:
    """The rows with those of some methods decided by the rule of their subject, if it has one."""
    if not rules:
        return rows
    names = ("subject", "rule_id", "recording_id", "reason")
    frame = pl.DataFrame(rules, schema=dict.fromkeys(names, pl.String), orient="row")
    by_rule = pl.when(pl.col("recording_id").is_null()).then(pl.lit("exception"))
    frame = frame.with_columns(
        by_rule.otherwise(pl.lit("rule")).alias("method"),
        *(expression for expression in _undecided([*names, "method"])),
    )
    is_asked = pl.col("method").is_in(methods)
    asked = _overridden(rows.filter(is_asked), frame, ["subject"])
    return pl.concat([rows.filter(~is_asked), asked])


def _overridden(rows: pl.DataFrame, decided: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """The rows with what was decided otherwise about some of them."""
    if decided.is_empty():
        return rows
    told = [name for name in decided.columns if name not in on]
    joined = rows.join(
        decided.with_columns(pl.lit(value=True).alias("_is_new")),
        on=on, how="left", maintain_order="left", suffix="_new",
    )  # fmt: skip
    return joined.with_columns(
        pl.when("_is_new").then(f"{name}_new").otherwise(name).alias(name) for name in told
    ).select(rows.columns)


def _name_subjects(names: pl.DataFrame) -> pl.Series:
    """Names in their normal form, as far as one decision should settle all their spellings."""
    told = names.select("title", "artist", "core", "version", "guest", "credits")
    subjects = pl.Series("subject", [_name_subject(*row) for row in told.iter_rows()], pl.String)
    return subjects.to_frame().select(_shortened_all(pl.col("subject"))).to_series()


def _name_subject(
    title: str, artist: str, core: str, version: str, guest: str, credited: str
) -> str:
    # A title of signs alone has no normal form; it is itself, and no other's.
    song = core or title.casefold().strip()
    version = " ".join(filter(None, (version, "with a guest" if guest == "with" else "")))
    return f"name:{song} | {version} | {credited or artist.casefold().strip()}".rstrip()


def _subject() -> pl.Expr:
    """What one decision about a use settles; null if nothing tells it from others."""
    upc, release = (pl.col(name).fill_null("") for name in ("upc", "release_title"))
    where = pl.when(upc != "").then(upc).otherwise(release)
    by_whom = pl.lit(" | ") + pl.col("artist").str.to_lowercase()
    return (
        pl.when(pl.col("isrc").str.contains(ISRC_PATTERN))
        .then(pl.lit("isrc:") + pl.col("isrc"))
        .when(pl.col("title") != "")
        .then(pl.col("subject"))
        .when(where != "")
        .then((pl.lit("release:") + where + by_whom).str.strip_chars_end())
    )


def _shortened_all(subjects: pl.Expr) -> pl.Expr:
    long = subjects.str.len_bytes() > _SUBJECT_BYTES_MAX
    short = pl.when(long).then(subjects).map_elements(_shortened, pl.String)
    return pl.when(long).then(short).otherwise(subjects).alias("subject")


def _shortened(subject: str) -> str:
    """A text that fits into a key, and is no other's."""
    return f"{subject[:30]}… {hashlib.sha256(subject.encode()).hexdigest()}"


def _levels() -> pl.Expr:
    """How near each field came, in words."""

    def level(name: str, score: pl.Expr, least: float) -> pl.Expr:
        return (
            pl.when(score >= 100.0)
            .then(pl.lit(f"{name}:equal"))
            .when(score >= least)
            .then(pl.lit(f"{name}:similar"))
            .otherwise(pl.lit(f"{name}:far"))
        )

    def agrees(name: str, column: str) -> pl.Expr:
        return (
            pl.when(pl.col(column))
            .then(pl.lit(f"{name}:agrees"))
            .otherwise(pl.lit(f"{name}:differs"))
        )

    words = pl.concat_str(
        level("title", pl.col("title_score"), TITLE_SCORE_MIN),
        level("artist", pl.col("artist_score"), ARTIST_SCORE_MIN),
        agrees("version", "version_agrees"),
        agrees("number", "numbers_agree"),
        separator=" ",
    )
    return pl.when(pl.col("score").is_not_null()).then(words).alias("levels")


def decide_names(index: CandidateIndex, names: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """Decide distinct (title, artist) pairs by name alone (``title``, ``artist``, decision)."""
    queries = normal_names(names).with_row_index("query")
    scored = score_candidates(index, queries)
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
        .with_columns(_reason().alias("reason"), _levels())
        .with_columns(_method().alias("method"))
        .join(queries.select("query").with_columns(_name_subjects(queries)), on="query")
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
        .then(pl.col("score"))
        .otherwise(pl.col("runner_up_score"))
        .alias("runner_up_score"),
        pl.when(unaccepted)
        .then(pl.lit(None, pl.String))
        .otherwise(pl.col("recording_id"))
        .alias("recording_id"),
    ).select(_NAME_DECISION_SCHEMA.keys())


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
