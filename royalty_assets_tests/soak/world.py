"""A seed's world: which feeds there are, what they deliver when, and what people do about it.

All of it follows from the seed, in any process. What was sent is told beside the bytes, row by
row, so that it can be counted without asking the product. Faults are not decided here.
"""

import csv
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from royalty_assets.domain.feeds import Project
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.simulator.scenario import Scenario
from royalty_assets.simulator.server import SimulatedServices

FIRST_YEAR = 2024
HTTP_FEEDS = {"sonora": "cursor_json", "vinylia": "ndjson_files", "mercado": "report_files"}
INBOX_FEEDS = ("tills", "ledgerline", "flatfee", "streamly")
"""``tills`` reports by day; the others by month. ``flatfee`` shares an agreed pool, and
``streamly`` sends DDEX messages whose summaries are pools."""
CSV_FEEDS = INBOX_FEEDS[:3]
TERRITORIES = ("DE", "US", "GB", "JP", "FR")
CURRENCIES = ("EUR", "USD", "GBP", "JPY")
HEADER = ("Date", "Territory", "ISRC", "Title", "Artist", "Units", "Amount", "Currency")
AGREED = Decimal("321.05")


@dataclass(frozen=True, slots=True)
class SentRow:
    """One row as it was meant: ``amount`` is None where it shares a pool."""

    day: date
    units: int
    amount: Decimal | None
    currency: str
    is_good: bool

    @property
    def month(self) -> str:
        """The accounting period, as ``2025-01``."""
        return f"{self.day:%Y-%m}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A file that comes into a folder of the project.

    Attributes:
        tick: at which it comes, counted from 0.
        feed: whose inbox it comes into; empty for catalog, contracts and remittances.
        path: in the project's home.
        rows: of a feed's report.
        pool: (currency, amount) that it tells beside its rows.
        is_final: whether nothing else comes under its name.
    """

    tick: int
    feed: str
    path: str
    body: bytes
    rows: tuple[SentRow, ...] = ()
    pool: tuple[str, Decimal] | None = None
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person does at a tick, once all is run: ``decide`` about usage, or ``close`` a month.

    Attributes:
        number: of the decision, or of the month.
    """

    tick: int
    what: str
    number: int


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is to happen.

    Attributes:
        ticks: the instants at which the operator runs the project.
        telemetry: what the simulated services play and report.
    """

    seed: int
    months: tuple[Partition, ...]
    ticks: tuple[datetime, ...]
    feeds: tuple[str, ...]
    telemetry: Scenario
    content: dict[str, Any]
    deliveries: tuple[Delivered, ...]
    deeds: tuple[Deed, ...]

    def project(self, url: str) -> Project:
        """The configuration, with the services at ``url``."""
        return Project.model_validate(_at(self.content, url))

    def services(self) -> SimulatedServices:
        """The simulated services; nobody waits for them to be polite."""
        return SimulatedServices(self.telemetry, requests_per_second=1_000_000)

    def barrier(self, tick: int) -> bool:
        """Whether somebody does something at this tick that depends on what has come till then."""
        return any(deed.tick == tick for deed in self.deeds) or tick == len(self.ticks) - 1


def _at(content: Any, url: str) -> Any:
    if isinstance(content, dict):
        return {name: _at(value, url) for name, value in content.items()}
    if isinstance(content, list):
        return [_at(value, url) for value in content]
    return content.replace("{url}", url) if isinstance(content, str) else content


@lru_cache(maxsize=2)
def make_world(seed: int) -> World:
    """The world of a seed."""
    return _Maker(seed).make()


@dataclass(slots=True)
class _Maker:
    """Draws a world."""

    seed: int
    draw: random.Random = field(init=False)
    months: list[Partition] = field(default_factory=list)
    ticks: list[datetime] = field(default_factory=list)
    deliveries: list[Delivered] = field(default_factory=list)
    recordings: list[tuple[str, str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = random.Random(f"world/{self.seed}")

    def make(self) -> World:
        draw = self.draw
        first = datetime(FIRST_YEAR + draw.randrange(2), draw.randrange(1, 11), 1, tzinfo=UTC)
        month = Partition.of(Cadence.MONTHLY, first)
        for _ in range(draw.choice((2, 2, 2, 3))):
            self.months.append(month)
            month = Partition.of(Cadence.MONTHLY, month.window.end)
        self._set_ticks()
        feeds = self._choose_feeds()
        scenario = Scenario(
            seed=self.seed,
            events=draw.randrange(60, 240),
            recordings=draw.randrange(20, 40),
            start=self.months[0].window.end - timedelta(hours=draw.randrange(1, 3)),
            hours=draw.choice((2, 2, 3, 4)),
            malformed=draw.choice((0.0, 0.03, 0.1)),
            repeated=draw.choice((0.0, 0.05)),
            without_isrc=0.1,
        )
        self._bring_catalog(SimulatedServices(scenario))
        if draw.random() < 0.5:
            self._bring_contracts()
        for name in feeds:
            if name in INBOX_FEEDS:
                self._bring_reports(name)
        if draw.random() < 0.3:
            self._bring_remittance(feeds[0])
        return World(
            self.seed,
            tuple(self.months),
            tuple(self.ticks),
            feeds,
            scenario,
            self._content(feeds, scenario),
            tuple(sorted(self.deliveries, key=lambda d: (d.tick, d.path))),
            self._choose_deeds(),
        )

    def _set_ticks(self) -> None:
        """In the middle of each month, and thrice when it has ended; some are left out."""
        for month in self.months:
            middle = month.window.start + timedelta(days=self.draw.randrange(8, 20), hours=6)
            if self.draw.random() < 0.5:
                self.ticks.append(middle)
            end = month.window.end
            self.ticks += [end + timedelta(hours=2), end + timedelta(days=5)]
        self.ticks.append(self.months[-1].window.end + timedelta(days=7, hours=9))

    def _tick_after(self, instant: datetime) -> int:
        return next(
            (n for n, tick in enumerate(self.ticks) if tick >= instant), len(self.ticks) - 1
        )

    def _closing_tick(self, number: int) -> int:
        """When a month is closed, if it is: five days after it has ended."""
        return self._tick_after(self.months[number].window.end + timedelta(days=5))

    def _choose_feeds(self) -> tuple[str, ...]:
        kinds = [*HTTP_FEEDS, *INBOX_FEEDS]
        chosen = self.draw.sample(kinds, self.draw.choice((1, 1, 2, 2, 2, 3, 4)))
        return tuple(name for name in kinds if name in chosen)

    def _choose_deeds(self) -> tuple[Deed, ...]:
        deeds = []
        for number in range(len(self.months) - 1):
            if self.draw.random() < 0.6 and all(
                any(d.number == n and d.what == "close" for d in deeds) for n in range(number)
            ):
                deeds.append(Deed(self._closing_tick(number), "close", number))
        for number in range(self.draw.choice((0, 1, 2))):
            first = self._tick_after(self.months[0].window.end)
            tick = self.draw.randrange(first, len(self.ticks) - 1)
            deeds.append(Deed(tick, "decide", number))
        return tuple(sorted(deeds, key=lambda d: (d.tick, d.what == "close", d.number)))

    # What is configured

    def _content(self, feeds: Sequence[str], scenario: Scenario) -> dict[str, Any]:
        return {
            "drift": {"severity": "off"},
            "closing": {"suspense_fraction_max": 1, "held_fraction_max": 1},
            "feeds": [
                self._http_feed(name, scenario) if name in HTTP_FEEDS else self._inbox_feed(name)
                for name in feeds
            ],
        }

    def _http_feed(self, name: str, scenario: Scenario) -> dict[str, Any]:
        asked = {
            "requests_per_second": 5_000, "page_size": self.draw.choice((5, 10, 40)),
            "timeout_seconds": 25, "attempts": 6,
        }  # fmt: skip
        feed: dict[str, Any] = {
            "name": name,
            "records": "report_lines" if name == "mercado" else "play_events",
            "cadence": "monthly" if name == "mercado" else "hourly",
            "start": scenario.start.isoformat(),
            "end": scenario.end.isoformat(),
            "window_minutes": self.draw.choice((30, 60, 60)),
            "rejected_fraction_max": "0.4",
            "source": {"dialect": HTTP_FEEDS[name], "url": f"{{url}}/{name}", **asked},
        }
        if name != "mercado":
            pools = {"dialect": "report_files", "url": f"{{url}}/{name}/pools", **asked}
            feed["pool_source"] = pools
            if self.draw.random() < 0.3:
                feed["allocation"] = {"model": "user_centric"}
        return feed

    def _inbox_feed(self, name: str) -> dict[str, Any]:
        feed: dict[str, Any] = {
            "name": name,
            "records": "report_lines",
            "cadence": "daily" if name == "tills" else "monthly",
            "start": f"{self.months[0].window.start:%Y-%m-%d}",
            "rejected_fraction_max": "0.9",
            "source": {"dialect": "inbox", "folder": f"inbox/{name}"},
        }
        if name == "flatfee":
            feed["pool"] = {"amount": str(AGREED), "currency": "EUR"}
        if name == "streamly":
            feed["pools_in_reports"] = True
        return feed

    # What comes

    def _put(self, tick: int, path: str, text: str, **of_report: Any) -> None:
        feed = of_report.pop("feed", "")
        self.deliveries.append(Delivered(tick, feed, path, text.encode(), **of_report))

    def _bring_catalog(self, services: SimulatedServices) -> None:
        """Recordings with gaps among ISRCs; one is missing. Some of that is mended later."""
        world = services.world
        self.recordings = world.recordings.rows()
        gaps = set(self.draw.sample(range(len(self.recordings)), 3))
        later = set(self.draw.sample(range(len(self.recordings)), 1))
        for name in ("shares", "rights"):
            self._put(0, f"catalog/{name}.csv", getattr(world, name).write_csv())

        def bring(tick: int, is_mended: bool) -> None:
            rows = [
                (recording, "" if number in gaps and not is_mended else isrc, title, artist)
                for number, (recording, isrc, title, artist) in enumerate(self.recordings)
                if is_mended or number not in later
            ]
            text = _csv(("recording_id", "isrc", "title", "artist"), rows)
            self._put(tick, "catalog/recordings.csv", text)

        bring(0, is_mended=False)
        if self.draw.random() < 0.6:
            bring(self.draw.randrange(1, len(self.ticks)), is_mended=True)

    def _bring_contracts(self) -> None:
        """One recording by contract, and a payee who is paid from some amount on."""
        recording = self.draw.choice(self.recordings)[0]
        text = (
            "payees:\n"
            "  - payee: mira\n    name: Mira\n    minimum_payment: 5\n"
            "    withholding:\n      - {percent: 15, reason: tax, valid_from: 2020-01-01}\n"
            "  - payee: label-of-mira\n"
            "contracts:\n"
            f"  - contract: mira-1\n    recordings: [{recording}]\n"
            "    deductions:\n      - {name: distribution, percent: 15}\n"
            f"    participants:\n      - {{payee: mira, percent: {self.draw.randrange(10, 80)}}}\n"
            "    remainder_to: label-of-mira\n"
            "    reserve:\n      percent: 10\n"
            "      release: [{after_months: 1, percent: 100}]\n"
        )
        self._put(self.draw.choice((0, 0, 2)), "contracts/deals.yaml", text)

    def _bring_remittance(self, feed: str) -> None:
        period = self.months[0].window.start
        row = (feed, f"{period:%Y-%m-%d}", "12.34", "EUR", f"{period:%Y-%m-28}", "bank-1")
        names = ("feed", "period", "amount", "currency", "received_on", "reference")
        tick = self.draw.randrange(len(self.ticks))
        self._put(tick, "remittances/bank.csv", _csv(names, [row]))

    def _bring_reports(self, feed: str) -> None:
        for number, month in enumerate(self.months):
            if feed == "streamly":
                self._bring_message(feed, month)
                continue
            start = month.window.start.date()
            if feed != "tills":
                days = [start + timedelta(days=n) for n in range(0, 28, 5)]
                self._bring_report(feed, number, f"{start:%Y-%m}", days, month.window.end)
                continue
            for offset in sorted(self.draw.sample(range(28), self.draw.randrange(1, 4))):
                day = start + timedelta(days=offset)
                came = month.window.start + timedelta(days=offset + 1)
                self._bring_report(feed, number, f"{day:%Y-%m-%d}", [day], came)

    def _bring_report(
        self, feed: str, number: int, label: str, days: Sequence[date], ended: datetime
    ) -> None:
        """A report, on time or late, and perhaps a corrected one under its name.

        What comes after its month may have been closed is corrected in the next.
        """
        path = f"inbox/{feed}/{feed}_{label}.csv"
        tick = self._tick_after(ended + timedelta(days=self.draw.choice((0, 0, 1, 3))))
        rows = self._rows(feed, days)
        last = len(self.ticks) - 1
        is_late = number < len(self.months) - 1 and self.draw.random() < 0.15
        if is_late:
            tick = min(self._closing_tick(number) + 1, last)
        corrected_at = self.draw.randrange(tick + 1, last + 1) if tick < last else last
        is_corrected = tick < last and self.draw.random() < 0.25
        texts, sent = zip(*rows, strict=True)
        self._put(
            tick, path, _csv(HEADER, texts), feed=feed, rows=sent, is_final=not is_corrected
        )  # fmt: skip
        if is_corrected and (corrected_at < last or number < len(self.months)):
            kept = rows[: max(1, len(rows) - self.draw.randrange(3))]
            texts, sent = zip(*(kept + self._rows(feed, days)[:2]), strict=True)
            self._put(corrected_at, path, _csv(HEADER, texts), feed=feed, rows=sent)

    def _rows(self, feed: str, days: Sequence[date]) -> list[tuple[tuple[object, ...], SentRow]]:
        draw = self.draw
        rows = []
        for _ in range(draw.randrange(4, 14)):
            _, isrc, title, artist = draw.choice(self.recordings)
            kind = draw.random()
            if kind < 0.12:
                isrc = ""
            if kind < 0.06:
                title, artist = f"Untitled {draw.randrange(5)}", "Nobody you know"
            day, units = draw.choice(days), draw.randrange(1, 500)
            amount: Decimal | None = Decimal(draw.randrange(1, 9_999_999)).scaleb(-5)
            currency = draw.choice(CURRENCIES)
            if feed == "flatfee":
                amount, currency = None, ""
            row: list[object] = [
                f"{day:%Y-%m-%d}", draw.choice(TERRITORIES), isrc, title, artist, units,
                "" if amount is None else f"{amount:f}", currency,
            ]  # fmt: skip
            is_good = draw.random() >= 0.06
            if not is_good:
                draw.choice(_SPOILERS)(row)
            rows.append((tuple(row), SentRow(day, units, amount, currency, is_good)))
        return rows

    def _bring_message(self, feed: str, month: Partition) -> None:
        """A DDEX message of streams that share its summary's revenue; a later one corrects it."""
        draw = self.draw
        label = f"{month.window.start:%Y%m}"
        ended = month.window.end
        tick = self._tick_after(ended)
        chosen = draw.sample(self.recordings, 3)
        amount = Decimal(draw.randrange(1_000, 90_000)).scaleb(-2)
        plays = [draw.randrange(1, 300) for _ in chosen]
        text = _dsr_message(f"M{label}", month, ended + timedelta(hours=1), chosen, plays, amount)
        day = month.window.start.date()
        sent = tuple(SentRow(day, units, None, "", is_good=True) for units in plays)
        self._put(
            tick, f"inbox/{feed}/{feed}_{label}.tsv", text, feed=feed, rows=sent,
            pool=("EUR", amount),
        )  # fmt: skip


def _spoil(position: int, value: object) -> Callable[[list[object]], None]:
    def spoil(row: list[object]) -> None:
        row[position] = value

    return spoil


_SPOILERS = (_spoil(1, "QQ"), _spoil(5, "many"), _spoil(1, ""), _spoil(7, "ZZZ"))


def _csv(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _dsr_message(
    message_id: str,
    month: Partition,
    at: datetime,
    recordings: Sequence[tuple[str, str, str, str]],
    plays: Sequence[int],
    amount: Decimal,
) -> str:
    """DSR BasicAudioProfile 1.2: one summary, a block a recording."""
    start, end = month.window.start, month.window.end - timedelta(days=1)
    records = [
        f"SY01.01\tS1\t\t\tSubscriptionModel\tOnDemandStream\tDE\tPremium\t{sum(plays)}\t\tEUR\t"
        f"{amount:f}\t\t\t"
    ]
    for number, ((_, isrc, title, artist), units) in enumerate(
        zip(recordings, plays, strict=True), start=1
    ):
        records += [
            f"RE01\t{number}\tR1\trel:{number}\t\t\t724384960650\t{artist}\t\tAlbum\t\t\tL\t\t",
            f"AS02.02\t{number}\tA1\ttrk:{number}\t{isrc}\t{title}\t\t{artist}\t\tPT3M\t"
            "SoundRecording\tT0345246801" + "\t" * 9,
            f"SU02\t{number}\tS1\tT{number}\t\tA1\ttrue\t{units}\t\t",
        ]
    head = "\t".join(
        (
            "HEAD", "dsrf/4.0/23/4.0", "BasicAudioProfile", "1.2", message_id,
            f"{at:%Y-%m-%dT%H:%M:%SZ}", "1", "1", f"{start:%Y-%m-%d}", f"{end:%Y-%m-%d}",
            "PADPIDA2011072101T", "Streamly", "Premium", "PADPIDA2014999999Z", "Label", "",
        )
    )  # fmt: skip
    lines = len(records) + 2
    foot = f"FOOT\t{lines}\t{lines}\t1\t{len(plays)}\t{len(plays)}"
    return "\n".join([head, *records, foot]) + "\n"
