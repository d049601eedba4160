"""How one feed's pools are shared: its model, who listened to what, and who recordings are by.

Between the ledger, which knows pools and claims by their columns, and ``allocation``, which knows
them by name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import polars as pl

from royalty_assets.domain.allocation import (
    PLAYS_SCHEMA,
    TERM_SCHEMA,
    AllocationModel,
    Claim,
    ProRata,
    fold_terms,
)
from royalty_assets.domain.matching.normalise import normalise_artists

ARTIST_SCHEMA: dict[str, pl.DataType] = {"recording_id": pl.String(), "artist": pl.String()}
"""Who a recording is by: its first credited artist, in normal form."""

_CLAIM = ["territory", "tier", "use_type", "recording_id", "reason"]
NO_TERMS = pl.DataFrame(schema=TERM_SCHEMA)


def first_credited_artists(recordings: pl.DataFrame) -> pl.DataFrame:
    """Who each of ``recording_id``, ``artist`` rows is by (``ARTIST_SCHEMA``).

    Two spellings of a name are one artist; a recording that credits nobody is by itself.
    """
    first = normalise_artists(recordings["artist"])["first_credit"]
    recording_id = pl.col("recording_id")
    return recordings.select(recording_id, first.alias("artist")).with_columns(
        pl.when(pl.col("artist") == "")
        .then("\t" + recording_id)
        .otherwise("artist")
        .alias("artist")
    )


@dataclass(frozen=True, slots=True)
class FeedSharing:
    """How the pools of one feed are shared.

    Attributes:
        model: by which.
        listening: frames of ``listening.LISTENING_SCHEMA``, each with all rows of the listeners
            that it has any of; read once, and only for a model that needs it.
        artists: ``ARTIST_SCHEMA``, for all recordings in ``listening``.
    """

    model: AllocationModel = field(default_factory=ProRata)
    listening: Iterable[pl.DataFrame] = ()
    artists: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ARTIST_SCHEMA))

    def terms_by_pool(
        self, with_pool: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> dict[str, pl.DataFrame]:
        """What the model needs of the listening, by pool; what is of no single pool is in each.

        Args:
            with_pool: adds ``pool`` to rows of feed, territory and tier, null where none is.
        """
        if not self.model.needs_listening:
            return {}
        terms = fold_terms(
            self.model.condense(self._plays(with_pool(frame))) for frame in self.listening
        )
        of_all = terms.filter(pl.col("pool").is_null())
        by_pool = terms.drop_nulls("pool").partition_by("pool", as_dict=True, maintain_order=True)
        return {str(pool): pl.concat([frame, of_all]) for (pool,), frame in by_pool.items()}

    def _plays(self, listening: pl.DataFrame) -> pl.DataFrame:
        named = listening.filter(pl.col("pool").is_not_null()).join(
            self.artists, on="recording_id", how="left"
        )
        # A tab is in no artist's normal form: what is not found is nobody's but its reason's.
        by_itself = "\t" + pl.coalesce("recording_id", "reason")
        return named.select(
            "pool",
            "listener",
            claim_keys().alias("claim"),
            pl.coalesce("artist", by_itself).alias("artist"),
            "units",
            pl.lit(0, pl.Int64).alias("active_units"),
            pl.lit(1, pl.Int64).alias("fee"),
        ).select(PLAYS_SCHEMA.keys())

    def allocate(self, atoms: int, sharing: pl.DataFrame, terms: pl.DataFrame) -> list[int]:
        """What each claim gets of a pool.

        Args:
            atoms: the pool.
            sharing: the claims: their columns, the ``shared_units`` that they share by, and
                ``recording_units`` (``with_recording_units``).
            terms: of the pool (``terms_by_pool``).

        Returns:
            The parts, in the order of the claims.

        Raises:
            ValueError: if listening and claims do not come from the same plays.
        """
        keys = sharing.select(claim_keys()).to_series().to_list()
        units = sharing.select("shared_units", "recording_units").iter_rows()
        claims = {key: Claim(*row) for key, row in zip(keys, units, strict=True)}
        parts = self.model.allocate(atoms, claims, terms)
        return [parts[key] for key in keys]


def with_recording_units(claims: pl.DataFrame) -> pl.DataFrame:
    """Claims with how often their recording was used in all pools of the feed."""
    used = pl.col("units").clip(lower_bound=0).sum()
    return claims.with_columns(used.over("feed", "recording_id", "reason").alias("recording_units"))


def claim_keys() -> pl.Expr:
    """What names a claim within its pool, and breaks ties of the rounding."""
    return pl.concat_str(pl.col(_CLAIM).fill_null(""), separator="\t")
