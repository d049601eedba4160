"""The models by which a pool is shared; facts and figures in ``industry_formats`` §4.1 and §4.3.

Each weighs claims by exact fractions, and the pool is divided by the weights with one rounding.
Boosts multiply plays and caps take some away, so the pool always stays the whole.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from royalty_assets.domain.allocation.plays import TERM_SCHEMA, fold_terms, listener_rows
from royalty_assets.domain.allocation.rounding import split_by_fractions, value_of
from royalty_assets.domain.money import split_exactly


class Claim(NamedTuple):
    """What takes part in a pool.

    Attributes:
        units: plays; a claim of no or negative units gets nothing.
        recording_units: plays of its recording in all of the feed's pools.
    """

    units: int
    recording_units: int = 0


def pro_rata(pool: int, units_by_claim: Mapping[str, int]) -> dict[str, int]:
    """R_x = pool · s_x / S (`industry_formats` §4.1), exactly, in the pool's own integer unit.

    Args:
        pool: what is shared, in atoms (or any other indivisible unit).
        units_by_claim: plays per recording or suspense claim; claims of no or negative units
            get nothing.

    Returns:
        The part of each claim; the parts sum to ``pool``.

    Raises:
        ValueError: if no claim has units.
    """
    weights = [(claim, max(units, 0)) for claim, units in units_by_claim.items()]
    parts = split_exactly(pool, weights)
    return {claim: part for (claim, _), part in zip(weights, parts, strict=True)}


class AllocationModel(BaseModel, ABC):
    """How a pool is shared: a model's name, and its parameters.

    Attributes:
        model: the name; what configuration chooses by.
        needs_listening: whether it has to know who listened to what.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    needs_listening: ClassVar[bool] = False

    def condense(self, plays: pl.DataFrame) -> pl.DataFrame:
        """What the model needs of some listeners' plays.

        Args:
            plays: ``PLAYS_SCHEMA`` of one feed's pools, in any order and cut, with all plays of
                each listener that it has any of.

        Returns:
            ``TERM_SCHEMA``; those of several frames are put together by ``fold_terms``.
        """
        del plays
        return pl.DataFrame(schema=TERM_SCHEMA)

    @abstractmethod
    def allocate(
        self, pool: int, claims: Mapping[str, Claim], terms: pl.DataFrame
    ) -> dict[str, int]:
        """The part of each claim; the parts sum to ``pool``.

        Args:
            pool: what is shared, in atoms (or any other indivisible unit).
            claims: what takes part, by key; ties of the rounding go to the smaller key.
            terms: of this pool's plays, and those of no single pool, by ``condense``; empty for a
                model that needs none.

        Raises:
            ValueError: if no claim has units, or plays and claims count them differently.
        """


class ProRata(AllocationModel):
    """Every play earns the same (Spotify's and most others' model)."""

    model: Literal["pro_rata"] = "pro_rata"

    def allocate(
        self, pool: int, claims: Mapping[str, Claim], terms: pl.DataFrame
    ) -> dict[str, int]:
        """See ``AllocationModel``."""
        del terms
        return pro_rata(pool, {key: claim.units for key, claim in claims.items()})


class StreamThreshold(AllocationModel):
    """Pro rata among recordings of enough plays; what the others would have had is re-shared.

    If no recording of a pool has enough, all take part: the money is somebody's.

    Attributes:
        units_min: plays of a recording in the feed's month, over all pools, from which on it
            takes part.
    """

    model: Literal["stream_threshold"] = "stream_threshold"
    units_min: Annotated[int, Field(ge=0)] = 1_000

    def allocate(
        self, pool: int, claims: Mapping[str, Claim], terms: pl.DataFrame
    ) -> dict[str, int]:
        """See ``AllocationModel``."""
        del terms
        taking_part = {
            key: claim.units if claim.recording_units >= self.units_min else 0
            for key, claim in claims.items()
        }
        if not any(units > 0 for units in taking_part.values()):
            taking_part = {key: claim.units for key, claim in claims.items()}
        return pro_rata(pool, taking_part)


class UserCentric(AllocationModel):
    """Each listener's fee goes to what that listener played: U_i = Σ_j fee_j · t_ij / t_j."""

    model: Literal["user_centric"] = "user_centric"
    needs_listening: ClassVar[bool] = True

    def condense(self, plays: pl.DataFrame) -> pl.DataFrame:
        """See ``AllocationModel``."""
        rows = listener_rows(plays).with_columns(
            pl.lit("").alias("artist"),
            pl.col("fee").alias("factor"),
            pl.col("listened").alias("divisor"),
            pl.lit(0, pl.Int64).alias("listeners"),
        )
        return fold_terms([rows])

    def allocate(
        self, pool: int, claims: Mapping[str, Claim], terms: pl.DataFrame
    ) -> dict[str, int]:
        """See ``AllocationModel``."""
        return split_by_fractions(pool, _weights(claims, terms))


class Shapley(AllocationModel):
    """Each listener's fee in equal parts to the artists that were played: fee_j / |artists of j|.

    An artist's part is shared by the listener's plays of the artist's claims.
    """

    model: Literal["shapley"] = "shapley"
    needs_listening: ClassVar[bool] = True

    def condense(self, plays: pl.DataFrame) -> pl.DataFrame:
        """See ``AllocationModel``."""
        artists = pl.col("artist").n_unique().over("pool", "listener").cast(pl.Int64)
        of_artist = pl.col("units").sum().over("pool", "listener", "artist")
        rows = listener_rows(plays).with_columns(
            pl.col("fee").alias("factor"),
            (artists * of_artist).alias("divisor"),
            pl.lit(0, pl.Int64).alias("listeners"),
        )
        return fold_terms([rows.with_columns(pl.lit("").alias("artist"))])

    def allocate(
        self, pool: int, claims: Mapping[str, Claim], terms: pl.DataFrame
    ) -> dict[str, int]:
        """See ``AllocationModel``."""
        return split_by_fractions(pool, _weights(claims, terms))


Multiplier = Annotated[Decimal, Field(ge=1, le=1_000)]


class ArtistCentric(AllocationModel):
    """Pro rata by plays that are capped per listener, and boosted (Deezer's ACPS, 2023).

    Listeners and artists are counted in the feed's month, over all pools.

    Attributes:
        plays_cap: plays of one listener that count; None for all of them.
        cap_rule: how a listener beyond the cap counts: ``scaled`` by all plays at cap / plays,
            ``half_beyond`` by half of those beyond the cap, taken off all plays alike.
        artist_multiplier: for plays of artists that have ``artist_units_min`` capped plays and
            ``artist_listeners_min`` listeners.
        active_multiplier: for plays that the listener looked for; telemetry that does not tell
            has none.
    """

    model: Literal["artist_centric"] = "artist_centric"
    needs_listening: ClassVar[bool] = True
    plays_cap: Annotated[int, Field(ge=1, le=10**9)] | None = 1_000
    cap_rule: Literal["scaled", "half_beyond"] = "scaled"
    artist_units_min: Annotated[int, Field(ge=0)] = 1_000
    artist_listeners_min: Annotated[int, Field(ge=0)] = 500
    artist_multiplier: Multiplier = Decimal(2)
    active_multiplier: Multiplier = Decimal(2)

    def condense(self, plays: pl.DataFrame) -> pl.DataFrame:
        """See ``AllocationModel``."""
        rows = listener_rows(plays).with_columns(
            *self._counted_of_listened(), pl.lit(0, pl.Int64).alias("listeners")
        )
        # Listeners are whole in these rows, so an artist's can be counted here and summed later.
        over_all_pools = [pl.lit(None, pl.String).alias(name) for name in ("pool", "claim")]
        first_row = pl.struct("artist", "listener").is_first_distinct().cast(pl.Int64)
        by_artist = rows.with_columns(*over_all_pools, first_row.alias("listeners"))
        return fold_terms([rows, by_artist])

    def _counted_of_listened(self) -> tuple[pl.Expr, pl.Expr]:
        """The fraction of a listener's plays that count, as ``factor`` and ``divisor``."""
        one = pl.lit(1, pl.Int64)
        if self.plays_cap is None:
            return one.alias("factor"), one.alias("divisor")
        listened = pl.col("units").sum().over("listener")
        cap = pl.lit(self.plays_cap, pl.Int64)
        is_half = self.cap_rule == "half_beyond"
        counted, of = (listened + cap, listened * 2) if is_half else (cap, listened)
        beyond = pl.when(listened > cap)
        return (
            beyond.then(counted).otherwise(one).alias("factor"),
            beyond.then(of).otherwise(one).alias("divisor"),
        )

    def allocate(
        self, pool: int, claims: Mapping[str, Claim], terms: pl.DataFrame
    ) -> dict[str, int]:
        """See ``AllocationModel``."""
        boosted = self._boosted_artists(terms)
        artist, artist_scale = self.artist_multiplier.as_integer_ratio()
        active, active_scale = self.active_multiplier.as_integer_ratio()
        weights = _weights(
            claims,
            terms.filter(pl.col("claim").is_not_null()),
            lambda row: (
                (row.units * active_scale + row.active_units * (active - active_scale))
                * (artist if row.artist in boosted else artist_scale)
            ),
        )
        return split_by_fractions(pool, weights)

    def _boosted_artists(self, terms: pl.DataFrame) -> set[str]:
        counted: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        listeners: dict[str, int] = defaultdict(int)
        of_artists = terms.filter(pl.col("claim").is_null())
        for row in map(_Term._make, of_artists.select(_Term._fields).iter_rows()):
            counted[row.artist][row.divisor] += row.factor * row.units
            listeners[row.artist] += row.listeners
        return {
            artist
            for artist, plays in counted.items()
            if listeners[artist] >= self.artist_listeners_min
            and Fraction(*value_of(plays)) >= self.artist_units_min
        }


class _Term(NamedTuple):
    claim: str
    artist: str
    factor: int
    divisor: int
    units: int
    active_units: int
    listeners: int


def _weights(
    claims: Mapping[str, Claim],
    terms: pl.DataFrame,
    counted: Callable[["_Term"], int] = lambda row: row.units,
) -> dict[str, dict[int, int]]:
    """Each claim's weight, by divisor, once its units are found to be those of its listeners."""
    weights: dict[str, dict[int, int]] = {key: {} for key in claims}
    played: dict[str, int] = defaultdict(int)
    for row in map(_Term._make, terms.select(_Term._fields).iter_rows()):
        played[row.claim] += row.units
        weight = weights.setdefault(row.claim, {})
        weight[row.divisor] = weight.get(row.divisor, 0) + row.factor * counted(row)
    for key in weights:
        units = max(claims[key].units, 0) if key in claims else 0
        if played.get(key, 0) != units:
            raise ValueError(
                f"{key!r} has {units} units, but {played.get(key, 0)} by listener; both have to "
                "be counted from the same plays"
            )
    return weights


def _by_name(value: Any) -> Any:
    """``allocation: user_centric`` is short for ``allocation: {model: user_centric}``."""
    if isinstance(value, str):
        return {"model": value}
    if isinstance(value, dict) and "model" not in value:
        raise ValueError("say which model, as {model: user_centric}")
    return value


Allocation = Annotated[
    Annotated[
        ProRata | UserCentric | Shapley | StreamThreshold | ArtistCentric,
        Field(discriminator="model"),
    ],
    BeforeValidator(_by_name),
]
"""A model as configuration says it."""
