"""What is simulated: the seed, the size, the span of time, and the three services.

The services are fixed here because demo, tests and benchmarks share them; only how much they
report and when is a matter of the scenario.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from royalty_assets.domain.windows import Cadence, Partition, partitions_between


@dataclass(frozen=True, slots=True)
class Service:
    """A simulated DSP.

    Attributes:
        name: of the feed, and the first part of its URLs.
        share_of_events: of the scenario's plays.
        currency: that its pools or reports are in, by territory; ``""`` is the default.
    """

    name: str
    cadence: Cadence
    share_of_events: float
    currency: dict[str, str]


SONORA = Service("sonora", Cadence.HOURLY, 0.45, {"": "EUR"})
VINYLIA = Service("vinylia", Cadence.HOURLY, 0.45, {"": "USD"})
MERCADO = Service("mercado", Cadence.MONTHLY, 0.10, {"": "GBP", "JP": "JPY"})
SERVICES = {service.name: service for service in (SONORA, VINYLIA, MERCADO)}

REGIONS: dict[str, tuple[str, ...]] = {
    "EMEA": ("DE", "FR", "GB", "ES", "NL", "SE", "ZA"),
    "AMER": ("US", "BR", "MX", "CA"),
    "APAC": ("JP", "AU", "IN"),
}
TERRITORY_WEIGHTS = {
    "US": 24, "GB": 13, "DE": 12, "BR": 9, "FR": 8, "MX": 7, "JP": 6,
    "ES": 5, "IN": 4, "CA": 4, "NL": 3, "SE": 2, "AU": 2, "ZA": 1,
}  # fmt: skip
TIER_WEIGHTS = {"premium": 55, "family": 20, "student": 5, "ad_supported": 20}
REGION_DELAY = {
    "EMEA": timedelta(hours=0),
    "AMER": timedelta(hours=1),
    "APAC": timedelta(hours=3),
}
"""How long after an hour has ended its data from a region is delivered."""

DEFAULT_START = datetime(2025, 3, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulated stretch of time; equal scenarios are equal bytes.

    Attributes:
        events: plays in all, over all services.
        recordings: in the catalog.
        malformed, repeated, without_isrc: fractions of telemetry records.
    """

    seed: int = 7
    events: int = 200_000
    recordings: int = 20_000
    start: datetime = DEFAULT_START
    hours: int = 24
    malformed: float = 0.03
    repeated: float = 0.02
    without_isrc: float = 0.05

    @property
    def end(self) -> datetime:
        """When the last simulated hour has ended."""
        return self.start + timedelta(hours=self.hours)

    def generator(self, *words: object) -> np.random.Generator:
        """A random generator that follows from the seed and ``words``, and nothing else."""
        key = "\t".join(map(str, (self.seed, *words))).encode()
        return np.random.default_rng(np.random.SeedSequence(list(key)))

    def partitions(self, service: Service) -> list[Partition]:
        """The partitions that the service delivers for."""
        first = service.cadence.floor(self.start)
        return list(partitions_between(service.cadence, first, self.end))

    def events_in(self, service: Service) -> dict[str, int]:
        """Partition key → plays; hours of the evening have more."""
        total = round(self.events * service.share_of_events)
        partitions = self.partitions(service)
        hours = np.array([partition.window.start.hour for partition in partitions])
        weights = 1.0 + 0.6 * np.sin((hours - 12) / 24 * 2 * np.pi)
        shares = np.floor(np.cumsum(weights) / weights.sum() * total + 0.5).astype(int)
        counts = np.diff(shares, prepend=0)
        return {p.key: int(n) for p, n in zip(partitions, counts, strict=True)}
