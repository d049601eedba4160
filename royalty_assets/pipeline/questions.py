"""The open questions: usage that no recording was found for, as people decide about it.

All usage that one decision would settle is one question. Questions are ordered by the money that
waits for them. Amounts that usage brings itself are exact; what it shares of a pool is its part of
what the ledger holds in suspense, by units.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from royalty_assets.domain.adjudication import Standing, State, SubjectKind, kind_of, standings
from royalty_assets.domain.batches import Batch, Stage
from royalty_assets.domain.ledger import Account
from royalty_assets.domain.matching import RECORDING_GONE
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.usage import USAGE_IDENTITY
from royalty_assets.domain.windows import Partition
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.month import month_frames
from royalty_assets.pipeline.periods import committed_months
from royalty_assets.storage.lake import read_frame

_READ = [
    "subject",
    *USAGE_IDENTITY,
    "reason",
    "units",
    "amount",
    "runner_up_id",
    "runner_up_score",
    "levels",
    "feed",
]
_POOL_KEY = ("feed", "month", "territory", "tier", "use_type", "reason")
_SPELLINGS_SHOWN = 12


@dataclass(slots=True)
class Question:
    """What one decision settles.

    Attributes:
        subject: see ``domain.adjudication``.
        title, artist: its most used spelling.
        isrc, upc, release_title: the first that any of its usage tells, in order of partitions.
        units: of all its usage; feeds, territories and partitions: where that is from.
        spellings: title and artist → units, most used first.
        reasons: why the matcher left it open.
        stakes: currency → atoms that wait for it.
        gross: the same, with what is taken back added to it rather than subtracted.
        has_shared_money: whether some of that is a part of a pool.
        is_valued: whether it is known what all of its usage is worth.
        first_used, last_used: days of use.
        nearest_id: the recording that came nearest, with its score and levels.
        standing: what people decided about it so far.
        weight: its part of all money that waits, summed over currencies; the order of the queue.
    """

    subject: str
    title: str = ""
    artist: str = ""
    isrc: str = ""
    upc: str = ""
    release_title: str = ""
    units: int = 0
    reasons: set[str] = field(default_factory=set)
    feeds: set[str] = field(default_factory=set)
    territories: set[str] = field(default_factory=set)
    partitions: set[tuple[str, str]] = field(default_factory=set)
    spellings: dict[tuple[str, str], int] = field(default_factory=dict)
    stakes: dict[str, int] = field(default_factory=dict)
    gross: dict[str, int] = field(default_factory=dict)
    has_shared_money: bool = False
    is_valued: bool = True
    first_used: date = date.max
    last_used: date = date.min
    nearest_id: str | None = None
    nearest_score: float | None = None
    levels: str = ""
    standing: Standing = field(default_factory=Standing)
    weight: float = 0.0

    @property
    def kind(self) -> SubjectKind:
        """What it is a question about."""
        return kind_of(self.subject)

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.standing.state

    def stake_texts(self) -> list[tuple[str, str]]:
        """(currency, amount) that waits, as decimal texts."""
        return [(currency, format_atoms(atoms)) for currency, atoms in sorted(self.stakes.items())]


def questions(context: PipelineContext) -> list[Question]:
    """Every open question of the commits in force, those with most money first, then the oldest.

    Money in different currencies is compared by its part of all that waits in its currency.
    """
    return with_standings(context, collect(context))


def collect(context: PipelineContext) -> list[Question]:
    """The questions, whatever people have decided about them, in order."""
    found: dict[str, Question] = {}
    rates = _suspense_rates(context)
    for commit in context.registry.commits(Stage.MATCHED):
        for batch in context.registry.batches_by_id(commit.batch_ids):
            _collect(found, _exceptions(context, batch), commit.partition_key, rates, context)
    totals: dict[str, int] = defaultdict(int)
    for question in found.values():
        for currency, atoms in question.stakes.items():
            totals[currency] += abs(atoms)
    for question in found.values():
        question.weight = sum(
            abs(atoms) / totals[currency]
            for currency, atoms in question.stakes.items()
            if totals[currency]
        )
        most = sorted(question.spellings.items(), key=lambda item: (-item[1], item[0]))
        question.spellings = dict(most[:_SPELLINGS_SHOWN])
        question.title, question.artist = most[0][0]
    return sorted(found.values(), key=lambda q: (-q.weight, -q.units, q.first_used, q.subject))


def with_standings(context: PipelineContext, found: list[Question]) -> list[Question]:
    """The same questions, each with where it stands now."""
    decided = standings(context.registry.adjudications(), context.now().date())
    for question in found:
        standing = decided.get(question.subject, Standing())
        if standing.state is State.RESOLVED and question.reasons == {RECORDING_GONE}:
            # What was decided can no longer be, so that it has to be decided anew.
            standing = Standing(State.OPEN, standing.decision)
        question.standing = standing
    return found


def _exceptions(context: PipelineContext, batch: Batch) -> pl.DataFrame:
    frame = read_frame(context.lake, batch.objects[0])
    if "subject" not in frame.columns:  # matched before questions had one; about to be again
        return pl.DataFrame(schema={name: pl.String() for name in _READ})
    return frame.filter(pl.col("method") == "exception").select(_READ).with_columns(_asked())


def _asked() -> pl.Expr:
    """What is asked of a person: for a right that is missing, about the recording."""
    of_right = pl.lit(f"{SubjectKind.RIGHT}:") + pl.col("runner_up_id")
    is_right = pl.col("reason") == "no_right_at_territory_and_date"
    unnamed = pl.lit(f"{SubjectKind.UNNAMED}:") + pl.col("feed")
    return (
        pl.when(is_right).then(of_right).otherwise(pl.coalesce("subject", unnamed)).alias("subject")
    )


_Rates = Mapping[tuple[str, ...], tuple[int, dict[str, int]]]


def _suspense_rates(context: PipelineContext) -> _Rates:
    """Pool key → units in suspense, and currency → atoms that wait for them."""
    rates: dict[tuple[str, ...], tuple[int, dict[str, int]]] = {}
    for month in committed_months(context):
        ledger, _, _ = month_frames(context, month)
        lines = ledger.filter(pl.col("account") == Account.SUSPENSE)
        # What corrects an earlier month is of that month's pool.
        of_month = (
            pl.when(pl.col("corrects") == "")
            .then(pl.lit(month.key))
            .otherwise(pl.col("corrects") + "-01")
        )
        key = lines.select("feed", of_month.alias("month"), *_POOL_KEY[2:])
        for place, currency, units, atoms in zip(
            key.rows(), lines["currency"], lines["units"], series_to_atoms(lines["amount"]),
            strict=True,
        ):  # fmt: skip
            total, money = rates.get(place, (0, {}))
            rates[place] = (total + units, money | {currency: money.get(currency, 0) - atoms})
    return rates


def _collect(
    found: dict[str, Question],
    rows: pl.DataFrame,
    partition_key: str,
    rates: _Rates,
    context: PipelineContext,
) -> None:
    if rows.is_empty():
        return
    feed = context.project.feed(str(rows["feed"][0]))
    month = Partition.parse(feed.cadence, partition_key).month.key
    atoms = series_to_atoms(rows["amount"].fill_null(0))
    for row, brought in zip(rows.iter_rows(named=True), atoms, strict=True):
        question = found.setdefault(row["subject"], Question(row["subject"]))
        question.units += row["units"]
        question.reasons.add(row["reason"])
        question.feeds.add(row["feed"])
        question.territories.add(row["territory"])
        question.partitions.add((row["feed"], partition_key))
        spelling = (row["title"], row["artist"])
        question.spellings[spelling] = question.spellings.get(spelling, 0) + row["units"]
        for name in ("isrc", "upc", "release_title"):
            if row[name] and not getattr(question, name):
                setattr(question, name, row[name])
        question.first_used = min(question.first_used, row["used_on"])
        question.last_used = max(question.last_used, row["used_on"])
        if row["runner_up_id"] and (question.nearest_score or -1.0) < (row["runner_up_score"] or 0):
            question.nearest_id = row["runner_up_id"]
            question.nearest_score = row["runner_up_score"]
            question.levels = row["levels"] or ""
        if row["currency"]:
            _add(question.stakes, row["currency"], brought)
            _add(question.gross, row["currency"], abs(brought))
            continue
        place = (row["feed"], month, *(row[name] for name in _POOL_KEY[2:]))
        units, money = rates.get(place, (0, {}))
        question.is_valued &= bool(money)
        for currency, shared in money.items():
            if units > 0 and shared:
                part = shared * row["units"] // units
                _add(question.stakes, currency, part)
                _add(question.gross, currency, abs(part))
                question.has_shared_money = True


def _add(stakes: dict[str, int], currency: str, atoms: int) -> None:
    stakes[currency] = stakes.get(currency, 0) + atoms
