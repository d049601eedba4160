"""What changed in the catalog since a month was paid, and the money that it moves.

A change of a title or a split is ordinary; that money which was paid to one moves to another is
what a person should know before the next payout. Whether usage still names what the catalog says
is ``matching.cascade``'s to tell.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from royalty_assets.domain.catalog import SHARE_DECIMALS, Catalog
from royalty_assets.domain.money import format_atoms
from royalty_assets.domain.money_columns import series_to_atoms

_TEXTS = ("isrc", "title", "artist", "upc", "release_title")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about one recording that is not as before; ``gone`` has no after."""

    recording_id: str
    what: str
    before: str
    after: str

    def in_words(self) -> str:
        """The change as a sentence."""
        if self.what == "gone":
            return f"{self.recording_id} ({self.before}) is no longer in the catalog"
        return f"{self.recording_id}: {self.what} was {self.before!r}, is {self.after!r}"


def compare_catalogs(before: Catalog, after: Catalog) -> list[Change]:
    """What is different of the recordings that were there before, by recording."""
    changes = [*_compared_recordings(before, after)]
    there = set(after.recordings["recording_id"]) & set(before.recordings["recording_id"])
    for what, tell in (("splits", _splits), ("rights", _rights)):
        old, new = tell(before), tell(after)
        changes += [
            Change(recording_id, what, old.get(recording_id, ""), new.get(recording_id, ""))
            for recording_id in sorted(old.keys() | new.keys())
            if recording_id in there and old.get(recording_id, "") != new.get(recording_id, "")
        ]
    return sorted(changes, key=lambda change: (change.recording_id, change.what))


def _compared_recordings(before: Catalog, after: Catalog) -> Iterator[Change]:
    both = before.recordings.join(
        after.recordings, on="recording_id", how="left", suffix="_after", maintain_order="left"
    )
    gone = pl.col("isrc_after").is_null()
    for row in both.filter(gone).iter_rows(named=True):
        yield Change(row["recording_id"], "gone", f"{row['title']} by {row['artist']}", "")
    for name in _TEXTS:
        differs = both.filter(~gone & (pl.col(name) != pl.col(f"{name}_after")))
        for row in differs.iter_rows(named=True):
            yield Change(row["recording_id"], name, row[name], row[f"{name}_after"])


def _splits(catalog: Catalog) -> dict[str, str]:
    share = pl.col("share_parts") / 10**SHARE_DECIMALS
    told = pl.concat_str("rights_holder_id", pl.lit(" "), share.round(6).cast(pl.String))
    return _by_recording(catalog.shares, told)


def _rights(catalog: Catalog) -> dict[str, str]:
    dates = [pl.col(name).cast(pl.String).fill_null("") for name in ("valid_from", "valid_to")]
    told = pl.concat_str("territories", pl.lit(" "), dates[0], pl.lit("…"), dates[1])
    return _by_recording(catalog.rights, told)


def _by_recording(table: pl.DataFrame, told: pl.Expr) -> dict[str, str]:
    texts = table.select("recording_id", told.alias("told")).group_by("recording_id")
    return dict(texts.agg(pl.col("told").sort().str.join(", ")).rows())


def money_moved(
    recording_ids: list[str], paid: pl.DataFrame, due: pl.DataFrame
) -> dict[str, dict[str, int]]:
    """Recording → currency → atoms that were paid to somebody who is not to have them any more.

    Args:
        recording_ids: of the recordings to look at.
        paid: ``payouts.PAYOUT_LINE_SCHEMA`` lines of before.
        due: the same, as they would be now.
    """
    key = ["recording_id", "rights_holder_id", "currency"]

    def of(lines: pl.DataFrame, name: str) -> pl.DataFrame:
        some = lines.filter(pl.col("recording_id").is_in(recording_ids))
        return some.group_by(key).agg(pl.col("amount").sum().alias(name))

    both = of(paid, "paid").join(of(due, "due"), on=key, how="full", coalesce=True).sort(key)
    moved: dict[str, dict[str, int]] = {}
    for (recording_id, _, currency), old, new in zip(
        both.select(key).rows(),
        series_to_atoms(both["paid"].fill_null(0)),
        series_to_atoms(both["due"].fill_null(0)),
        strict=True,
    ):
        if abs(new) < abs(old) or new * old < 0:
            amounts = moved.setdefault(recording_id, {})
            amounts[currency] = amounts.get(currency, 0) + abs(old - new)
    return moved


def drift_findings(
    changes: list[Change], moved: Mapping[str, Mapping[str, int]], limits: Mapping[str, int]
) -> list[str]:
    """The changes that move money, in words, where their sum is above a limit.

    Args:
        changes: of the catalog.
        moved: see ``money_moved``.
        limits: currency → atoms that may move; nothing may where a currency has none.
    """
    total: dict[str, int] = {}
    for amounts in moved.values():
        for currency, atoms in amounts.items():
            total[currency] = total.get(currency, 0) + atoms
    if not any(atoms > limits.get(currency, 0) for currency, atoms in total.items()):
        return []
    whole = ", ".join(
        f"{format_atoms(atoms)} {currency}" for currency, atoms in sorted(total.items())
    )
    told = [f"changes in the catalog move {whole} that was paid to others"]
    order = sorted(changes, key=lambda c: -max(moved.get(c.recording_id, {"": 0}).values()))
    for change in order:
        if of_it := moved.get(change.recording_id):
            money = ", ".join(f"{format_atoms(a)} {c}" for c, a in sorted(of_it.items()))
            told.append(f"{change.in_words()}; moves {money}")
    return told
