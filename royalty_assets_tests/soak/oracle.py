"""What has to be true afterwards, whatever struck.

Three yardsticks, none of which knows the others: the same world run without faults; what was
sent, counted row by row from the generators (not through the product); and the product's own
``verify``. Sums are of Python's integers, and fractions.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple

import polars as pl
import sqlalchemy as sa

from royalty_assets.domain import invariants
from royalty_assets.domain.batches import Batch, LakeObject, Stage
from royalty_assets.domain.ledger import LEDGER_SCHEMA, NO_CURRENCY, Account
from royalty_assets.domain.money import minor_unit_decimals
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.payouts import (
    BALANCE_SCHEMA,
    HELD_SCHEMA,
    PAYOUT_LINE_SCHEMA,
    PAYOUT_SCHEMA,
)
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import LEDGER_FEED, PipelineContext
from royalty_assets.pipeline.month import ledger_hash
from royalty_assets.pipeline.payouts import TABLES as PAYOUT_TABLES
from royalty_assets.pipeline.payouts import payout_frame
from royalty_assets.pipeline.periods import is_closed, ledger_in_force
from royalty_assets.pipeline.rederive import rederive
from royalty_assets.pipeline.statements import TABLES as STATEMENT_TABLES
from royalty_assets.pipeline.verify import verify_quickly
from royalty_assets.simulator.reports import make_pool_report, make_sales_reports
from royalty_assets.simulator.scenario import SERVICES
from royalty_assets.simulator.server import SimulatedServices
from royalty_assets.storage import tables
from royalty_assets.storage.lake import read_frame
from royalty_assets_tests.soak.world import AGREED, HTTP_FEEDS, Delivered, World

ATOMS = 10**18
_LETTERS_MAX = 1_000_000
_PAGED = "sonora"
"""Pages may come twice or in another order: its rows are known by their content, not number."""


class Kind(StrEnum):
    """What a finding is about."""

    LOST = "lost"
    DOUBLED = "doubled"
    WRONG = "wrong"


class Finding(NamedTuple):
    """Something that is not as it has to be, in words."""

    kind: Kind
    told: str


def _compared(what: str, found: int, expected: int) -> Iterator[Finding]:
    """Fewer are lost, more are doubled."""
    if found != expected:
        kind = Kind.LOST if found < expected else Kind.DOUBLED
        yield Finding(kind, f"{what}: {found}, not {expected}")


@dataclass(slots=True)
class Books:
    """What a run has left, as far as it may depend on nothing but the world.

    Attributes:
        ledger_hash: over all months.
        tables: (month, stage, table) → the frame in force.
        letters: the dead letters in force.
        questions: what matched usage leaves open, in force.
        decisions: what people decided, in order.
        closed: which months are.
        deeds: what came of what people did.
    """

    ledger_hash: str
    tables: dict[tuple[str, str, str], pl.DataFrame]
    letters: Counter[tuple[Any, ...]]
    questions: Counter[tuple[Any, ...]]
    decisions: list[tuple[Any, ...]]
    closed: list[str]
    deeds: list[str] = field(default_factory=list)


def books_of(context: PipelineContext, world: World, deeds: list[str]) -> Books:
    """Read the books of a project."""
    return Books(
        ledger_hash(context, list(world.months)),
        dict(_tables(context, world)),
        _letters(context),
        _questions(context),
        [
            (d.subject, str(d.action), d.who, d.why, d.recording_id)
            for d in context.registry.adjudications()
        ],
        [month.key for month in world.months if is_closed(context, month)],
        list(deeds),
    )


def _tables(
    context: PipelineContext, world: World
) -> Iterator[tuple[tuple[str, str, str], pl.DataFrame]]:
    for month in world.months:
        for stage, names in (
            (Stage.LEDGER, ("ledger",)),
            (Stage.PAYOUTS, PAYOUT_TABLES),
            (Stage.STATEMENTS, STATEMENT_TABLES),
        ):
            commit = context.registry.commit(LEDGER_FEED, stage, month.key)
            if commit is None:
                continue
            (batch,) = context.registry.batches_by_id(commit.batch_ids)
            for name, stored in zip(names, batch.objects, strict=True):
                yield (month.key, str(stage), name), read_frame(context.lake, stored)


def _letters(context: PipelineContext) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for letter in context.registry.dead_letters(limit=_LETTERS_MAX):
        place = tuple(letter[name] for name in ("feed", "stage", "partition_key"))
        said = tuple(letter[name] for name in ("rule", "value", "content"))
        if letter["feed"] == _PAGED:
            found[place + said] = 1
        else:
            found[(*place, letter["row_number"], *said)] += 1
    return found


def _questions(context: PipelineContext) -> Counter[tuple[Any, ...]]:
    in_force = [
        batch_id
        for commit in context.registry.commits(Stage.MATCHED)
        for batch_id in commit.batch_ids
    ]
    table = tables.exceptions
    told = [table.c[name] for name in ("usage_key", "territory", "reason", "units")]
    with context.registry.as_stored() as connection:
        query = sa.select(*told).where(table.c.batch_id.in_(in_force))
        return Counter(tuple(row) for row in connection.execute(query))


def differences(calm: Books, struck: Books) -> Iterator[Finding]:
    """Where a run with faults has other books than the one without."""
    if calm.ledger_hash != struck.ledger_hash:
        told = f"ledger hash: {struck.ledger_hash}, not {calm.ledger_hash}"
        yield Finding(Kind.WRONG, told)
    for key in sorted(calm.tables.keys() | struck.tables.keys()):
        before, after = calm.tables.get(key), struck.tables.get(key)
        name = " ".join(key)
        if before is None:
            yield Finding(Kind.DOUBLED, f"{name}: there is one only with faults")
        elif after is None:
            yield Finding(Kind.LOST, f"{name}: there is one only without faults")
        elif not before.equals(after):
            yield from _row_differences(name, Counter(before.rows()), Counter(after.rows()))
    for name in ("letters", "questions", "decisions", "closed", "deeds"):
        before, after = getattr(calm, name), getattr(struck, name)
        if before != after:
            yield from _row_differences(name, Counter(before), Counter(after))


def _row_differences(name: str, before: Counter[Any], after: Counter[Any]) -> Iterator[Finding]:
    if before == after:
        yield Finding(Kind.WRONG, f"{name}: the same rows in another order")
        return
    for kind, rows in ((Kind.LOST, before - after), (Kind.DOUBLED, after - before)):
        for row in sorted(rows, key=str)[:1]:
            yield Finding(kind, f"{name}: {rows.total()} rows, one of them {str(row)[:300]}")


# What was sent


@dataclass(slots=True)
class Sent:
    """What a feed has sent in all, as far as it is to count.

    Attributes:
        accepted, rejected: rows.
        repeated: rows that came again; None where faults of the network may have added some.
        units: of accepted rows.
        money: currency → atoms, of rows and pools.
    """

    accepted: int = 0
    rejected: int = 0
    repeated: int | None = 0
    units: int = 0
    money: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def what_was_sent(
    world: World, services: SimulatedServices, copies: Mapping[str, int]
) -> dict[str, Sent]:
    """Feed → what it has sent, counted from what the generators meant."""
    return {
        name: _sent_by_service(world, services, name)
        if name in HTTP_FEEDS
        else _sent_to_inbox(world, name, copies)
        for name in world.feeds
    }


def _sent_by_service(world: World, services: SimulatedServices, name: str) -> Sent:
    service, scenario = SERVICES[name], world.telemetry
    sent = Sent()
    partitions = scenario.partitions(service)
    if name == "mercado":
        for month in partitions:
            for report in make_sales_reports(scenario, services.world, service, month):
                sent.accepted += report.truth.height
                sent.units += int(report.truth["units"].sum())
                currency = report.name.rpartition("_")[2].partition(".")[0]
                sent.money[currency] += sum(
                    int(Fraction(a) * ATOMS) for a in report.truth["amount"]
                )
        return sent
    lines = 0
    for hour in partitions:
        truth = services._make_hour(name, hour).truth
        good = truth.filter(pl.col("is_well_formed"))["event_id"]
        lines += truth.height
        sent.accepted += len(set(good))
        sent.rejected += truth.height - len(good)
    sent.units = sent.accepted
    sent.repeated = None if name == _PAGED else lines - sent.accepted - sent.rejected
    for month in {hour.month.key: hour.month for hour in partitions}.values():
        for currency, _, _, amount in make_pool_report(scenario, service, month).truth.rows():
            sent.money[currency] += int(Fraction(amount) * ATOMS)
    return sent


def _sent_to_inbox(world: World, name: str, copies: Mapping[str, int]) -> Sent:
    last: dict[str, Delivered] = {d.path: d for d in world.deliveries if d.feed == name}
    sent = Sent()
    months: set[str] = set()
    for path, delivered in last.items():
        good = [row for row in delivered.rows if row.is_good]
        sent.accepted += len(good)
        sent.rejected += len(delivered.rows) - len(good)
        assert sent.repeated is not None
        sent.repeated += copies.get(path, 0) * len(delivered.rows)
        sent.units += sum(row.units for row in good)
        for row in good:
            if row.amount is not None:
                sent.money[row.currency] += int(Fraction(row.amount) * ATOMS)
            else:
                months.add(row.month)
        if delivered.pool is not None:
            currency, amount = delivered.pool
            sent.money[currency] += int(Fraction(amount) * ATOMS)
    if name == "flatfee":
        # It is due only for a month that has usage.
        sent.money["EUR"] += len(months) * int(Fraction(AGREED) * ATOMS)
    return sent


def count_differences(
    context: PipelineContext, world: World, sent: Mapping[str, Sent]
) -> Iterator[Finding]:
    """Where the books have other rows, units or money than were sent."""
    for feed, of_feed in sent.items():
        yield from _counted_rows(context, feed, of_feed)
    ledgers = [ledger_in_force(context, month) for month in world.months]
    ledger = pl.concat([pl.DataFrame(schema=LEDGER_SCHEMA), *ledgers])
    for feed, of_feed in sent.items():
        own = ledger.filter(pl.col("feed") == feed)
        is_money = pl.col("account") == Account.RECEIVABLE
        money = _atoms(own.filter(is_money & (pl.col("currency") != NO_CURRENCY)))
        for currency in sorted(money.keys() | of_feed.money.keys()):
            what = f"atoms {currency} that are receivable of {feed}"
            yield from _compared(what, money.get(currency, 0), of_feed.money.get(currency, 0))
        units = int(own.filter(~is_money)["units"].sum())
        yield from _compared(f"units of {feed} in the ledgers", units, of_feed.units)


def _counted_rows(context: PipelineContext, feed: str, sent: Sent) -> Iterator[Finding]:
    commits = context.registry.commits(Stage.VALIDATED, feed)
    frames = [
        read_frame(context.lake, stored)
        for commit in commits
        for batch in context.registry.batches_by_id(commit.batch_ids)
        for stored in batch.objects
    ]
    counts: Counter[str] = Counter()
    for commit in commits:
        counts.update(commit.counts)
    rows = invariants.RowCount(
        counts["received"], counts["accepted"], counts["rejected"], counts["duplicates"]
    )
    for told in invariants.rows_are_accounted_for(rows):
        yield Finding(Kind.WRONG, f"rows of {feed}: {told}")
    accepted = sum(frame.height for frame in frames)
    yield from _compared(f"accepted rows of {feed}", accepted, sent.accepted)
    units = sum(int(frame["units"].sum()) for frame in frames)
    yield from _compared(f"units in accepted rows of {feed}", units, sent.units)
    letters = len(context.registry.dead_letters(feed, Stage.VALIDATED, limit=_LETTERS_MAX))
    if sent.repeated is None:
        # A spoilt row on a page that came twice was refused twice.
        letters, rejected = min(letters, sent.rejected), min(counts["rejected"], sent.rejected)
    else:
        rejected = counts["rejected"]
        yield from _compared(f"repeated rows of {feed}", counts["duplicates"], sent.repeated)
    yield from _compared(f"dead letters of {feed}", letters, sent.rejected)
    yield from _compared(f"rejected rows of {feed}", rejected, sent.rejected)


# What is paid


def payout_differences(context: PipelineContext, world: World) -> Iterator[Finding]:
    """Where what is paid is not what the ledger owes, rounded once."""
    for month in world.months:
        if context.registry.commit(LEDGER_FEED, Stage.PAYOUTS, month.key) is not None:
            for told in _month_differences(context, month):
                yield Finding(Kind.WRONG, f"{month.key[:7]}: {told}")


def _month_differences(context: PipelineContext, month: Partition) -> Iterator[str]:
    ledger = ledger_in_force(context, month)
    payouts = payout_frame(context, month, "payouts", PAYOUT_SCHEMA)
    balance = payout_frame(context, month, "balance", BALANCE_SCHEMA)
    lines = payout_frame(context, month, "payout_lines", PAYOUT_LINE_SCHEMA)
    held = payout_frame(context, month, "held", HELD_SCHEMA)
    yield from invariants.ledger_balances(ledger)
    yield from invariants.money_is_accounted_for(balance)
    owed = _atoms(ledger.filter(pl.col("account") == Account.RECORDING_PAYABLE))
    divided, kept = _atoms(lines), _atoms(held)
    for currency in sorted(owed.keys() | divided.keys() | kept.keys()):
        due = -owed.get(currency, 0)
        found = divided.get(currency, 0) + kept.get(currency, 0)
        if due != found and currency != NO_CURRENCY:
            yield f"{due} atoms {currency} are owed on recordings, {found} are divided or held"
    figures = {
        name: series_to_atoms(payouts[name])
        for name in payouts.columns
        if name not in {"rights_holder_id", "rights_holder_name", "currency"}
    }
    due_of: dict[str, dict[str, int]] = defaultdict(dict)
    paid_of: dict[str, dict[str, int]] = defaultdict(dict)
    keys = zip(payouts["rights_holder_id"], payouts["currency"], strict=True)
    for row, (payee, currency) in enumerate(keys):
        gross = figures["amount_paid"][row] + figures["amount_withheld"][row]
        exact = figures["amount_exact"][row]
        if exact > 0 and not figures["amount_carried_forward"][row]:
            due_of[currency][payee] = exact
            paid_of[currency][payee] = gross
        elif gross:
            yield f"{payee} is paid {gross} atoms {currency}, of {exact}"
    for currency, due in due_of.items():
        expected = _rounded(due, 10 ** (18 - minor_unit_decimals(currency)))
        for payee in sorted(due):
            if paid_of[currency][payee] != expected[payee]:
                yield (
                    f"{payee} is to have {expected[payee]} atoms {currency}, rounded once from "
                    f"{due[payee]}, and is paid {paid_of[currency][payee]}"
                )


def _rounded(due: Mapping[str, int], unit: int) -> dict[str, int]:
    """Whole units by largest remainder: floors, and one more for those with the largest rests."""
    floors = {payee: atoms // unit for payee, atoms in due.items()}
    spare = sum(due.values()) // unit - sum(floors.values())
    for payee in sorted(due, key=lambda payee: (-(due[payee] % unit), payee))[:spare]:
        floors[payee] += 1
    return {payee: units * unit for payee, units in floors.items()}


def _atoms(frame: pl.DataFrame) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for currency, atoms in zip(frame["currency"], series_to_atoms(frame["amount"]), strict=True):
        sums[currency] += atoms
    return sums


# What is stored


def storage_differences(context: PipelineContext, *, is_thorough: bool) -> Iterator[Finding]:
    """What ``verify`` finds, and objects that nothing lists and that are not whole.

    Args:
        context: the project.
        is_thorough: whether everything is made again from the raw bytes.
    """
    checked = verify_quickly(context)
    if is_thorough:
        checked += rederive(context)
    for each in checked:
        for told in each.differences[:3]:
            yield Finding(Kind.WRONG, f"verify: {each.name}: {told}")
    for commit in (c for stage in Stage for c in context.registry.commits(stage)):
        for check, findings in commit.checks.items():
            if findings:
                place = f"{commit.feed}/{commit.stage} {commit.partition_key}"
                yield Finding(Kind.WRONG, f"{place} is red: {check}: {findings[0]}")
    listed = {stored.path for stored in _listed(context)}
    orphans = [each for each in context.lake.listing() if each.path not in listed]
    for each in sorted(orphans, key=lambda orphan: orphan.path):
        sha256 = context.lake.sha256(LakeObject(each.path, "", each.size_bytes, 0))
        if not each.path.endswith(f"-{sha256[:32]}.parquet"):
            told = f"orphan {each.path} is not whole: {each.size_bytes} bytes of SHA-256 {sha256}"
            yield Finding(Kind.WRONG, told)


def _listed(context: PipelineContext) -> Iterator[LakeObject]:
    with context.registry.as_stored() as connection:
        ids = connection.execute(sa.select(tables.batches.c.batch_id)).scalars().all()
    batches: list[Batch] = context.registry.batches_by_id(ids)
    for batch in batches:
        yield from batch.objects
