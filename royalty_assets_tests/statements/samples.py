"""Statements for tests and docs: seeded lines, and movements that follow from them.

The arithmetic is done here once more, on plain integers, so that a statement is whole because it
was computed so and not because it was adjusted until a check was content.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import polars as pl

from royalty_assets.domain.money import (
    AMOUNT_DECIMALS,
    ATOMS_PER_UNIT,
    format_atoms,
    format_money,
    minor_unit_decimals,
    parse_amount,
    to_atoms,
)
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, atoms_to_series
from royalty_assets.domain.statements import (
    RECOUPMENT_HISTORY_SCHEMA,
    RESERVE_SCHEMA,
    STATEMENT_LINE_SCHEMA,
    STATEMENT_MOVEMENT_SCHEMA,
    Statement,
)

PERIOD = "2025-03"
UNIT = ATOMS_PER_UNIT

RECORDINGS = (
    ("R-00017", "DEA122400017", "Wolkenbruch", "Mara Lindqvist"),
    ("R-00018", "DEA122400018", "Night Ferry to Gdańsk", "Mara Lindqvist"),
    ("R-00019", "DEA122400019", "Kein Wort zu viel", "Mara Lindqvist feat. Jonas Ø"),
    ("R-00020", "DEA122400020", "Ελαφρύ φως", "Mara Lindqvist & Νεφέλη"),
    ("R-00021", "DEA122400021", "Белый шум", "Mara Lindqvist"),
    ("R-00022", "DEA122400022", "Slow Machines (Live at the Old Harbour)", "Mara Lindqvist"),
    ("R-00031", "DEA122300031", "Paper Lanterns", "Tall Grass Radio"),
    ("R-00032", "DEA122300032", "Half a Mile of Snow", "Tall Grass Radio"),
    ("R-00033", "DEA122300033", "東京タワー", "Tall Grass Radio"),
    ("R-00034", "DEA122300034", "Every Light On", "Tall Grass Radio"),
    ("R-00041", "DEA122200041", "Salt", "Ida Brenner"),
    ("R-00042", "DEA122200042", "Undertow", "Ida Brenner"),
)
FEEDS = (
    ("sonora", "EUR", ("DE", "FR", "SE", "PL", "AT")),
    ("streamly", "USD", ("US", "CA", "BR", "MX")),
    ("tidewave", "EUR", ("DE", "GB", "NL")),
    ("clipcast", "GBP", ("GB", "IE")),
)
RATES = {"USD": "0.924214", "GBP": "1.193602", "EUR": "0.9"}


@dataclass(frozen=True, slots=True)
class SampleLine:
    """What a line says before anything is computed; ``share`` of (0, 0) is an amount per unit."""

    feed: str
    territory: str
    currency: str
    recording: tuple[str, str, str, str]
    units: int
    receipts: int
    share: tuple[int, int] = (1, 2)
    per_unit: int = 0
    tier: str = "premium"
    use_type: str = "OnDemandStream"
    corrects: str = ""


def sample_lines(count: int, seed: int = 7) -> list[SampleLine]:
    """So many lines of the sample's recordings, all but every twelfth of this period.

    The last is a download that is paid by the unit.
    """
    random_numbers = random.Random(seed)
    lines = []
    for number in range(count - 1 if count > 1 else count):
        feed, currency, territories = random_numbers.choice(FEEDS)
        recording = random_numbers.choice(RECORDINGS)
        units = int(random_numbers.lognormvariate(9.6, 0.9))
        per_unit = random_numbers.randrange(1_800, 6_200) * 10**12
        receipts = units * per_unit + random_numbers.randrange(10**12)
        is_correction = number % 12 == 11
        lines.append(
            SampleLine(
                feed,
                random_numbers.choice(territories),
                currency,
                recording,
                -units // 3 if is_correction else units,
                -receipts // 3 if is_correction else receipts,
                share=(1, 2) if recording[0] < "R-00030" else (7, 20),
                tier=random_numbers.choice(("premium", "free")),
                corrects=random_numbers.choice(("2025-01", "2025-02")) if is_correction else "",
            )
        )
    if count > 1:
        lines.append(
            SampleLine(
                "clipcast", "GB", "GBP", RECORDINGS[0], 12_500, 0, (0, 0), 4 * 10**15,
                tier="all", use_type="PermanentDownload",
            )
        )  # fmt: skip
    return lines


def statement_of(
    lines: Sequence[SampleLine],
    *,
    currency: str = "EUR",
    payee_id: str = "P-0007",
    payee_name: str = "Lindqvist Musik GbR",
    brought_forward: int = 0,
    advance: int = 0,
    reserves: bool = True,
    tax_per_thousand: int = 0,
    minimum: int = 0,
) -> Statement:
    """The statement of these lines.

    Args:
        lines: in any order.
        currency: of the statement.
        payee_id: of its payee.
        payee_name: of its payee.
        brought_forward: from the period before, in atoms.
        advance: what was advanced in October 2024, in atoms; half was recouped since.
        reserves: whether a tenth of earnings is held, and an earlier reserve released.
        tax_per_thousand: withheld of what is due.
        minimum: what is due, in atoms, is carried forward below it.
    """
    table = _line_table(lines, currency)
    atoms = [to_atoms(amount) for amount in table["payee_amount"]]
    corrected = table["corrects"].to_list()
    now = sum(a for a, period in zip(atoms, corrected, strict=True) if not period)
    units = sum(u for u, period in zip(table["units"], corrected, strict=True) if not period)
    movements = []
    if brought_forward:
        told = "The balance at the end of February 2025, below what is paid out at once."
        if brought_forward < 0:
            told = "What was overpaid by the end of February 2025."
        movements.append(("brought_forward", "2025-02", told, brought_forward))
    told = f"{units:,} units in {corrected.count('')} lines; each line says by which terms."
    movements.append(("earnings", PERIOD, told, now))
    for period in sorted(set(filter(None, corrected))):
        amount = sum(a for a, p in zip(atoms, corrected, strict=True) if p == period)
        told = f"Usage of {period} that a service has since reported otherwise."
        movements.append(("adjustment", period, told, amount))
    held: list[tuple[str, str, str, int]] = []
    if reserves and now > 0:
        reserve = now // 10
        held = [
            ("C-2024-11", "2025-02", "2025-08", reserve * 3 // 4),
            ("C-2024-11", PERIOD, "2025-09", reserve),
        ]
        told = "10 % of this period's earnings, held for returns and due in September 2025."
        movements.append(("reserve_held", "C-2024-11", told, -reserve))
        told = "The reserve that was held in September 2024."
        movements.append(("reserve_released", "C-2024-11", told, reserve * 5 // 8))
    due = sum(movement[3] for movement in movements)
    history, recouped = _account(advance, due)
    if recouped:
        open_minor_units = history[-1][5] // _minor_unit(currency) * _minor_unit(currency)
        told = (
            "Half of what is due is set against the advance of October 2024; "
            f"{format_money(open_minor_units, currency)} {currency} are still to be recouped."
        )
        movements.append(("recouped", "album-2", told, -recouped))
        due -= recouped
    movements += _settled(due, currency, tax_per_thousand, minimum)
    return Statement(
        payee_id, payee_name, PERIOD, currency,
        lines=table,
        movements=_table(movements, STATEMENT_MOVEMENT_SCHEMA),
        recoupment=_table(history, RECOUPMENT_HISTORY_SCHEMA),
        reserves=_table(held, RESERVE_SCHEMA),
    )  # fmt: skip


@cache
def sample_statement(lines: int = 48) -> Statement:
    """The sample of ``docs/explanation/statements.md``: a payee with something of everything."""
    return statement_of(
        sample_lines(lines), brought_forward=12_40 * UNIT // 100, advance=6_000 * UNIT,
        tax_per_thousand=50,
    )  # fmt: skip


def _line_table(lines: Sequence[SampleLine], currency: str) -> pl.DataFrame:
    ordered = sorted(
        lines,
        key=lambda line: (
            line.feed, line.currency, line.territory, line.tier, line.use_type, line.recording[0],
            line.corrects,
        ),
    )  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for number, line in enumerate(ordered, start=1):
        numerator, denominator = line.share
        if denominator:
            amount = line.receipts * numerator // denominator
            terms = f"{100 * numerator // denominator} % of net receipts"
        else:
            amount = line.per_unit * line.units
            terms = f"{format_atoms(line.per_unit)} {line.currency} per unit"
        rate = "" if line.currency == currency else RATES.get(line.currency, "1.5")
        paid = amount
        if rate:
            product = abs(amount) * to_atoms(parse_amount(rate)) // UNIT
            paid = -product if amount < 0 else product
        recording_id, isrc, title, artist = line.recording
        rows.append(
            (
                number, line.feed, line.territory, line.tier, line.use_type, recording_id, isrc,
                title, artist, "C-2024-11" if denominator else "", terms, line.units,
                line.currency, line.receipts, numerator, denominator, amount, rate,
                "2025-03-31" if rate else "", "European Central Bank" if rate else "", paid,
                line.corrects,
            )
        )  # fmt: skip
    return _table(rows, STATEMENT_LINE_SCHEMA)


def _account(advance: int, due: int) -> tuple[list[tuple[str, str, int, int, int, int]], int]:
    """The advance's history since October, and what is recouped of ``due``."""
    if not advance:
        return [], 0
    history = []
    balance = 0
    for at, period in enumerate(("2024-10", "2024-11", "2024-12", "2025-01", "2025-02", PERIOD)):
        charged = advance if at == 0 else advance // 12 if at == 3 else 0
        recouped = 0 if at == 0 else advance // 8
        if period == PERIOD:
            recouped = max(0, min(due // 2, balance))
        closing = balance + charged - recouped
        history.append(("album-2", period, balance, charged, recouped, closing))
        balance = closing
    return history, history[-1][4]


def _settled(
    due: int, currency: str, tax_per_thousand: int, minimum: int
) -> list[tuple[str, str, str, int]]:
    """What becomes of the balance: paid, withheld or carried forward; it sums to ``-due``."""
    if due < minimum or due < 0:
        told = "Less than nothing is due; it is set against the next period."
        if due >= 0:
            told = f"Less than {format_money(minimum, currency)} {currency} is not paid out."
        return [("carried_forward", "2025-04", told, -due)] if due else []
    minor_unit = _minor_unit(currency)
    whole, rest = divmod(due, minor_unit)
    withheld = whole * tax_per_thousand // 1000
    told = "A bank pays no part of the smallest coin."
    settled = [("rounding", "", told, -rest)] if rest else []
    if withheld:
        told = f"{tax_per_thousand / 10:g} % withholding tax, under the treaty."
        settled.append(("withheld", "DE-tax", told, -withheld * minor_unit))
    told = "Paid by bank transfer."
    return [*settled, ("paid", "", told, -(whole - withheld) * minor_unit)]


def _minor_unit(currency: str) -> int:
    return 10 ** (AMOUNT_DECIMALS - minor_unit_decimals(currency))


def _table(rows: Sequence[tuple[object, ...]], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    columns = []
    for at, (name, dtype) in enumerate(schema.items()):
        values = [row[at] for row in rows]
        if dtype == AMOUNT_DTYPE:
            columns.append(atoms_to_series(name, [int(str(value)) for value in values]))
        else:
            columns.append(pl.Series(name, values, dtype))
    return pl.DataFrame(columns)
