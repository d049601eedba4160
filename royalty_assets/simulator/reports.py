"""Simulated reports: monthly sales files with preamble and footer, and pool summaries.

Report lines are the service's plays summed by recording and territory, priced per play; their
totals are told in the footer, so that a reader can prove that it took every line.
"""

import csv
import io
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import polars as pl

from royalty_assets.domain.windows import Partition
from royalty_assets.simulator.scenario import TERRITORY_WEIGHTS, TIER_WEIGHTS, Scenario, Service
from royalty_assets.simulator.world import World


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A file as delivered, and what is true of it (recording_id, territory, units, amount)."""

    name: str
    body: bytes
    truth: pl.DataFrame


def make_sales_reports(
    scenario: Scenario, world: World, service: Service, month: Partition
) -> list[ReportFile]:
    """One file per currency: CSV for the default currency, TSV for the others."""
    generator = scenario.generator("sales", service.name, month.key)
    number = scenario.events_in(service).get(month.key, 0)
    territories = list(TERRITORY_WEIGHTS)
    chance = np.array(list(TERRITORY_WEIGHTS.values()), dtype=float)
    plays = pl.DataFrame(
        {
            "row": np.searchsorted(world.popularity, generator.random(number)),
            "territory": pl.Series(territories).gather(
                generator.choice(len(territories), number, p=chance / chance.sum())
            ),
        }
    )
    lines = plays.group_by("row", "territory").len("units").sort("row", "territory")
    day = max(scenario.start, month.window.start).date().isoformat()
    files = []
    for place, currency in service.currency.items():
        local = pl.col("territory") == place if place else ~pl.col("territory").is_in(
            [p for p in service.currency if p]
        )  # fmt: skip
        chosen = lines.filter(local)
        prices = generator.integers(2_100_000, 6_900_000, chosen.height)
        exponent = -7 if currency == "JPY" else -9
        amounts = [
            Decimal(int(price)).scaleb(exponent) * units
            for price, units in zip(prices, chosen["units"], strict=True)
        ]
        kind, delimiter = ("tsv", "\t") if place else ("csv", ",")
        body = _sales_file(service, month, currency, delimiter, day, world, chosen, amounts)
        truth = chosen.select(
            world.recordings["recording_id"].gather(chosen["row"]), "territory", "units"
        ).with_columns(pl.Series("amount", [str(a) for a in amounts], pl.String))
        name = f"{service.name}_sales_{month.window.start:%Y-%m}_{currency}.{kind}"
        files.append(ReportFile(name, body, truth))
    return files


def _sales_file(
    service: Service,
    month: Partition,
    currency: str,
    delimiter: str,
    day: str,
    world: World,
    lines: pl.DataFrame,
    amounts: list[Decimal],
) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(["Report", f"{service.name.title()} sales report"])
    writer.writerow(["Period", f"{month.window.start:%Y-%m}"])
    writer.writerow(["Currency", currency])
    writer.writerow([])
    writer.writerow(
        ["Sale Date", "Country", "ISRC", "Track Title", "Track Artist", "Units", "Net Revenue"]
    )
    recordings = world.recordings.select("isrc", "title", "artist").rows()
    for (row, territory, units), amount in zip(lines.iter_rows(), amounts, strict=True):
        writer.writerow([day, territory, *recordings[row], units, f"{amount:f}"])
    writer.writerow(
        ["Total", "", "", "", "", lines["units"].sum(), f"{sum(amounts, Decimal(0)):f}"]
    )
    writer.writerow(["Lines", lines.height])
    return text.getvalue().encode()


def make_pool_report(scenario: Scenario, service: Service, month: Partition) -> ReportFile:
    """What a telemetry service pays for the month, by territory and tier."""
    generator = scenario.generator("pools", service.name, month.key)
    per_play = 0.004 * scenario.events * service.share_of_events
    whole = sum(TERRITORY_WEIGHTS.values()) * sum(TIER_WEIGHTS.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["Month", "Territory", "Tier", "Currency", "Pool Amount"])
    rows = []
    for territory, weight in TERRITORY_WEIGHTS.items():
        for tier, tier_weight in TIER_WEIGHTS.items():
            expected = per_play * weight * tier_weight / whole * generator.uniform(0.8, 1.2)
            amount = Decimal(round(expected * 100)).scaleb(-2)
            row = (service.currency[""], territory, tier, str(amount))
            rows.append(row)
            writer.writerow([f"{month.window.start:%Y-%m}", territory, tier, row[0], row[3]])
    name = f"{service.name}_pools_{month.window.start:%Y-%m}.csv"
    truth = pl.DataFrame(rows, schema=["currency", "territory", "tier", "amount"], orient="row")
    return ReportFile(name, text.getvalue().encode(), truth)
