"""Simulated telemetry: the plays of one service in one hour, as lines of JSON, with the truth.

Dirt is put in on purpose and told in the truth: records that no model accepts, repeated
deliveries of one event, plays without a usable ISRC whose title is written another way.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from royalty_assets.domain.windows import Partition
from royalty_assets.simulator.scenario import (
    REGIONS,
    TERRITORY_WEIGHTS,
    TIER_WEIGHTS,
    Scenario,
    Service,
)
from royalty_assets.simulator.world import World

_REGION_OF = {territory: region for region, codes in REGIONS.items() for territory in codes}

TRUTH_SCHEMA: dict[str, pl.DataType] = {
    "event_id": pl.String(),
    "recording_id": pl.String(),
    "territory": pl.String(),
    "tier": pl.String(),
    "region": pl.String(),
    "is_well_formed": pl.Boolean(),
    "is_repeated": pl.Boolean(),
    "is_named_only": pl.Boolean(),
}
"""One row per line: what was really played; a repeated line follows the line that it repeats."""


@dataclass(frozen=True, slots=True)
class HourOfPlays:
    """Lines of JSON without line ends, and ``TRUTH_SCHEMA`` in the same order."""

    lines: list[bytes]
    truth: pl.DataFrame

    def of_regions(self, regions: Sequence[str]) -> list[bytes]:
        """The lines of plays in these regions, in order."""
        wanted = self.truth["region"].is_in(list(regions))
        return [line for line, keep in zip(self.lines, wanted, strict=True) if keep]


def make_hour(scenario: Scenario, world: World, service: Service, hour: Partition) -> HourOfPlays:
    """The plays of ``service`` in ``hour``; the same for the same scenario, in any process."""
    number = scenario.events_in(service).get(hour.key, 0)
    generator = scenario.generator("telemetry", service.name, hour.key)
    distinct = _plays(scenario, world, service, hour, number, generator)
    order = _with_repetitions(scenario, number, generator)
    dirt = generator.random(len(order)) < scenario.malformed
    is_repeated = pl.Series(order).is_first_distinct().not_()
    frame = distinct[order].with_columns(
        pl.Series("is_repeated", is_repeated),
        # A repetition stays as it was sent the first time: only first copies are spoilt.
        (~pl.Series("dirt", dirt) | is_repeated).alias("is_well_formed"),
    )
    body = frame.select(
        "event_id", "played_at", "user_id", "isrc", "title", "artist", "album",
        "territory", "tier", "played_ms", "device",
    )  # fmt: skip
    lines = body.write_ndjson().encode().splitlines()
    kinds = generator.integers(0, len(_SPOILERS), len(lines))
    for index in np.flatnonzero(~frame["is_well_formed"].to_numpy()):
        lines[index] = _SPOILERS[kinds[index]](json.loads(lines[index]))
    return HourOfPlays(lines, frame.select(TRUTH_SCHEMA.keys()))


def _plays(
    scenario: Scenario,
    world: World,
    service: Service,
    hour: Partition,
    number: int,
    generator: np.random.Generator,
) -> pl.DataFrame:
    recording = np.searchsorted(world.popularity, generator.random(number))
    named_only = generator.random(number) < scenario.without_isrc
    unknown = generator.random(number) < 0.01
    spread = int(hour.window.end.timestamp() - hour.window.start.timestamp()) * 1_000_000
    # A millisecond before the end at most, so that rounding never leaves the hour.
    offsets = np.sort(generator.integers(0, spread - 1_000, number))
    known = world.recordings[recording]
    titles = known["title"].to_list()
    artists = known["artist"].to_list()
    written = generator.integers(0, len(_SPELLINGS), number)
    for index in np.flatnonzero(named_only):
        titles[index], artists[index] = _SPELLINGS[written[index]](titles[index], artists[index])
    for index in np.flatnonzero(unknown):
        titles[index], artists[index] = f"Untitled demo {written[index]}", "Nobody you know"
    return pl.DataFrame(
        {
            "event_id": [f"{service.name[:3]}-{hour.window.label}-{i:08x}" for i in range(number)],
            "played_at": (
                pl.Series(offsets, dtype=pl.Duration("us")) + hour.window.start
                if number
                else pl.Series([], dtype=pl.Datetime("us", "UTC"))
            ).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
            "user_id": pl.Series(
                generator.zipf(1.3, number) % 500_000, dtype=pl.Int64
            ).map_elements(lambda user: f"u{user:06d}", return_dtype=pl.String),
            "isrc": known["isrc"],
            "title": pl.Series(titles, dtype=pl.String),
            "artist": pl.Series(artists, dtype=pl.String),
            "album": pl.Series(titles, dtype=pl.String) + " - Single",
            "territory": _choose(generator, TERRITORY_WEIGHTS, number),
            "tier": _choose(generator, TIER_WEIGHTS, number),
            "played_ms": generator.integers(30_000, 260_000, number),
            "device": _choose(generator, {"ios": 4, "android": 4, "web": 1, "speaker": 1}, number),
            "recording_id": known["recording_id"],
            "is_named_only": named_only,
            "_unknown": unknown,
        }
    ).with_columns(
        pl.when("_unknown")
        .then(pl.lit("ZZNOB9900001"))
        .when("is_named_only")
        .then(pl.lit(""))
        .otherwise("isrc")
        .alias("isrc"),
        pl.when("_unknown").then(None).otherwise("recording_id").alias("recording_id"),
        pl.col("territory").replace_strict(_REGION_OF, return_dtype=pl.String).alias("region"),
    )


def _choose(generator: np.random.Generator, weights: dict[str, int], number: int) -> pl.Series:
    values = pl.Series(list(weights))
    chance = np.array(list(weights.values()), dtype=float)
    return values.gather(generator.choice(len(values), number, p=chance / chance.sum()))


def _with_repetitions(
    scenario: Scenario, number: int, generator: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Row numbers with some of them again, a little later."""
    again = np.flatnonzero(generator.random(number) < scenario.repeated)
    positions = np.concatenate([np.arange(number), again + generator.integers(1, 50, len(again))])
    rows = np.concatenate([np.arange(number), again])
    return rows[np.argsort(positions, kind="stable")]


def _mistyped(title: str, artist: str) -> tuple[str, str]:
    middle = len(title) // 2
    return title[:middle] + title[middle + 1 :], artist


_SPELLINGS: Sequence[Callable[[str, str], tuple[str, str]]] = (
    lambda title, artist: (title.upper(), artist),
    lambda title, artist: (title.lower(), artist.lower()),
    lambda title, artist: (f"{title} - Remastered 2019", artist),
    lambda title, artist: (title.replace("&", "and"), artist),
    lambda title, artist: (title, f"{artist}, Somebody Else"),
    _mistyped,
)


def _without(field: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: json.dumps({k: v for k, v in event.items() if k != field}).encode()


def _with(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda event: json.dumps(event | changes).encode()


_SPOILERS: Sequence[Callable[[dict[str, Any]], bytes]] = (
    _without("event_id"),
    _without("played_at"),
    _with(territory="QQ"),
    _with(played_ms="three minutes"),
    _with(played_ms=-1),
    _with(tier="Premium Plus!"),
    _with(user_id=None),
    _with(isrc="", title="", artist=""),
)
