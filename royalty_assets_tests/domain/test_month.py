"""From usage and pools to payouts: the published oracle, and an oracle of our own in fractions.

The independent oracle computes every payee's exact entitlement with fractions, with none of the
code under test; the ledger's answer must be within a minor unit of it and conserve every atom.
"""

from collections import defaultdict
from datetime import UTC, datetime
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain import invariants
from royalty_assets.domain.allocation import pro_rata
from royalty_assets.domain.canonical import ledger_sha256
from royalty_assets.domain.catalog import SHARE_SCHEMA, SHARE_WHOLE
from royalty_assets.domain.ledger import (
    LEDGER_SCHEMA,
    MATCHED_USAGE_COLUMNS,
    NO_CURRENCY,
    build_ledger,
)
from royalty_assets.domain.money import ATOMS_PER_UNIT
from royalty_assets.domain.money_columns import atoms_to_series, series_to_atoms
from royalty_assets.domain.payouts import build_payouts
from royalty_assets.domain.usage import POOL_SCHEMA

CENT = ATOMS_PER_UNIT // 100


def usage_frame(rows) -> pl.DataFrame:
    """(feed, territory, tier, currency, recording, reason, units, atoms) rows as matched usage."""
    columns = list(zip(*rows, strict=True)) or [[]] * 8
    feed, territory, tier, currency, recording, reason, units, atoms = map(list, columns)
    amount = atoms_to_series("amount", [a or 0 for a in atoms])
    return (
        pl.DataFrame(
            {
                "feed": feed,
                "territory": territory,
                "tier": tier,
                "use_type": ["Stream"] * len(feed),
                "currency": currency,
                "recording_id": recording,
                "reason": reason,
                "units": units,
            },
            schema={name: LEDGER_SCHEMA[name] for name in MATCHED_USAGE_COLUMNS[:-1]},
        )
        .with_columns(amount)
        .with_columns(pl.when(pl.col("currency").is_not_null()).then("amount").alias("amount"))
    )


def pool_frame(rows) -> pl.DataFrame:
    """(feed, territory, tier, currency, atoms[, is_agreed]) rows as pool lines."""
    return (
        pl.DataFrame(
            {
                "feed": [row[0] for row in rows],
                "used_at": [datetime(2025, 3, 1, tzinfo=UTC)] * len(rows),
                "territory": [row[1] for row in rows],
                "tier": [row[2] for row in rows],
                "currency": [row[3] for row in rows],
                "is_agreed": [len(row) > 5 and row[5] for row in rows],
                "source_sha256": [""] * len(rows),
                "row_number": [0] * len(rows),
            },
            schema={"feed": pl.String, **{n: t for n, t in POOL_SCHEMA.items() if n != "amount"}},
        )
        .with_columns(atoms_to_series("amount", [row[4] for row in rows]))
        .select("feed", *POOL_SCHEMA)
    )


def share_frame(splits) -> pl.DataFrame:
    rows = [
        (recording, holder, holder, parts)
        for recording, split in sorted(splits.items())
        for holder, parts in sorted(split.items())
    ]
    return pl.DataFrame(rows, schema=SHARE_SCHEMA, orient="row")


def paid_cents(payouts) -> dict[str, int]:
    return {
        holder: atoms // CENT
        for holder, atoms in zip(
            payouts.payouts["rights_holder_id"],
            series_to_atoms(payouts.payouts["amount_paid"]),
            strict=True,
        )
    }


def sole_holders(recordings) -> pl.DataFrame:
    return share_frame({recording: {recording: SHARE_WHOLE} for recording in recordings})


def test_pro_rata_is_the_published_oracle():
    """`industry_formats` §4.3: u1 plays A 90 and B 10; u2 C 5; u3 A 300, C 100; u4 B, C, D once."""
    plays = {"A": 90 + 300, "B": 10 + 1, "C": 5 + 100 + 1, "D": 1}
    assert pro_rata(2800, plays) == {"A": 2150, "B": 61, "C": 584, "D": 5}


def test_the_oracle_holds_through_ledger_and_payouts():
    """The same table from usage to payees; naive rounding would pay 2801."""
    plays = {"A": 390, "B": 11, "C": 106, "D": 1}
    usage = usage_frame(
        [("f", "DE", "premium", None, name, None, units, None) for name, units in plays.items()]
    )
    pools = pool_frame([("f", "DE", "premium", "EUR", 28 * ATOMS_PER_UNIT)])
    payouts = build_payouts(build_ledger([usage], pools), sole_holders(plays))
    assert paid_cents(payouts) == {"A": 2150, "B": 61, "C": 584, "D": 5}


def test_a_claim_shares_the_narrowest_pool_that_covers_it():
    usage = usage_frame(
        [
            ("f", "DE", "premium", None, "A", None, 1, None),
            ("f", "DE", "student", None, "B", None, 1, None),
            ("f", "FR", "premium", None, "C", None, 1, None),
            ("f", "FR", "student", None, "D", None, 1, None),
        ]
    )
    pools = pool_frame(
        [
            ("f", "DE", "premium", "EUR", 1 * CENT),
            ("f", "DE", "all", "EUR", 2 * CENT),
            ("f", "Worldwide", "premium", "EUR", 3 * CENT),
            ("f", "Worldwide", "all", "EUR", 4 * CENT),
        ]
    )
    payouts = build_payouts(build_ledger([usage], pools), sole_holders("ABCD"))
    assert paid_cents(payouts) == {"A": 1, "B": 2, "C": 3, "D": 4}


def test_unmatched_usage_keeps_its_money_in_suspense():
    usage = usage_frame(
        [
            ("f", "DE", "premium", None, "A", None, 3, None),
            ("f", "DE", "premium", None, None, "ambiguous", 1, None),
            ("f", "DE", "all", "EUR", None, "isrc_unknown", 2, 10 * CENT),
        ]
    )
    pools = pool_frame([("f", "DE", "premium", "EUR", 100 * CENT)])
    ledger = build_ledger([usage], pools)
    suspense = ledger.filter(pl.col("account") == "suspense")
    by_reason = dict(zip(suspense["reason"], series_to_atoms(suspense["amount"]), strict=True))
    assert by_reason == {"ambiguous": -25 * CENT, "isrc_unknown": -10 * CENT}
    assert invariants.ledger_balances(ledger) == []


def test_a_pool_that_nothing_shares_is_in_suspense_and_an_agreed_one_is_not_due():
    pools = pool_frame(
        [("f", "DE", "all", "EUR", 5 * CENT), ("g", "Worldwide", "all", "EUR", 7 * CENT, True)]
    )
    ledger = build_ledger([], pools)
    assert ledger.select("feed", "account", "reason").rows() == [
        ("f", "receivable", ""),
        ("f", "suspense", "pool_without_usage"),
    ]


def test_usage_without_money_is_told_and_not_lost():
    usage = usage_frame([("f", "DE", "premium", None, "A", None, 3, None)])
    ledger = build_ledger([usage], pool_frame([]))
    (line,) = ledger.to_dicts()
    assert (line["account"], line["reason"], line["units"]) == ("suspense", "no_money_reported", 3)
    assert line["currency"] == NO_CURRENCY


def test_money_of_a_recording_without_shares_is_held():
    usage = usage_frame([("f", "DE", "all", "EUR", "A", None, 1, 5 * CENT + 1)])
    payouts = build_payouts(build_ledger([usage], pool_frame([])), sole_holders("B"))
    (balance,) = payouts.balance.to_dicts()
    assert payouts.payouts.is_empty()
    assert balance["held"] == balance["received"]
    assert invariants.money_is_accounted_for(payouts.balance) == []


def test_a_negative_balance_is_carried_forward_and_not_paid():
    usage = usage_frame(
        [
            ("f", "DE", "all", "EUR", "A", None, -2, -5 * CENT),
            ("f", "DE", "all", "EUR", "B", None, 2, 9 * CENT),
        ]
    )
    payouts = build_payouts(build_ledger([usage], pool_frame([])), sole_holders("AB"))
    assert paid_cents(payouts) == {"A": 0, "B": 9}
    assert series_to_atoms(payouts.balance["carried_forward"]) == [-5 * CENT]
    assert invariants.money_is_accounted_for(payouts.balance) == []


RECORDINGS = "ABCD"
usage_rows = st.lists(
    st.tuples(
        st.sampled_from("fg"),
        st.sampled_from(["DE", "FR"]),
        st.sampled_from(["premium", "student"]),
        st.sampled_from([None, "EUR", "JPY"]),
        st.sampled_from([*RECORDINGS, None]),
        st.integers(0, 1000),
        st.integers(0, 10**24),
    ).map(
        lambda r: (
            r[0], r[1], r[2], r[3], r[4], None if r[4] else "ambiguous", r[5],
            r[6] if r[3] else None,
        )
    ),
    max_size=25,
)  # fmt: skip
pool_rows = st.lists(
    st.tuples(
        st.sampled_from("fg"),
        st.sampled_from(["DE", "FR", "Worldwide"]),
        st.sampled_from(["premium", "student", "all"]),
        st.sampled_from(["EUR", "USD"]),
        st.integers(0, 10**24),
    ),
    max_size=8,
)


def _to_whole(weights: dict[str, int]) -> dict[str, int]:
    total = sum(weights.values())
    parts = {holder: weight * SHARE_WHOLE // total for holder, weight in weights.items()}
    parts[min(parts)] += SHARE_WHOLE - sum(parts.values())
    return parts


splits = st.fixed_dictionaries(
    {
        recording: st.dictionaries(
            st.sampled_from(["x", "y", "z"]), st.integers(1, 97), min_size=1
        ).map(_to_whole)
        for recording in RECORDINGS[:-1]  # D has no shares: its money is held
    }
)


def entitlements(usage, pools, split) -> dict[tuple[str, str], Fraction]:
    """(payee, currency) → exact entitlement in atoms, by the rules and nothing else."""
    due: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    amounts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for feed, territory, tier, currency, atoms in pools:
        amounts[feed, territory, tier][currency] += atoms
    sharing = defaultdict(list)
    for feed, territory, tier, currency, recording, _, units, atoms in usage:
        if currency is not None:
            if recording:
                due[recording, currency] += atoms
            continue
        for pool in (
            (feed, territory, tier), (feed, territory, "all"),
            (feed, "Worldwide", tier), (feed, "Worldwide", "all"),
        ):  # fmt: skip
            if pool in amounts:
                sharing[pool].append((recording, units))
                break
    for pool, claims in sharing.items():
        total = sum(units for _, units in claims)
        for recording, units in claims:
            for currency, atoms in amounts[pool].items():
                if total and recording:
                    due[recording, currency] += Fraction(atoms * units, total)
    paid: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for (recording, currency), amount in due.items():
        for holder, parts in split.get(recording, {}).items():
            paid[holder, currency] += amount * Fraction(parts, SHARE_WHOLE)
    return paid


@given(usage_rows, pool_rows, splits)
def test_every_payee_gets_what_is_due_and_every_atom_is_somewhere(usage, pools, split):
    """Invariants 1 and 5, against exact fractions."""
    ledger = build_ledger([usage_frame(usage)], pool_frame(pools))
    payouts = build_payouts(ledger, share_frame(split))
    assert invariants.ledger_balances(ledger) == []
    assert invariants.money_is_accounted_for(payouts.balance) == []
    posted = ledger.filter(pl.col("account") != "receivable")["units"].sum()
    assert posted == sum(row[6] for row in usage)

    received: dict[str, int] = defaultdict(int)
    for row in usage:
        if row[3] is not None:
            received[row[3]] += row[7]
    for row in pools:
        received[row[3]] += row[4]
    balance = dict(
        zip(payouts.balance["currency"], series_to_atoms(payouts.balance["received"]), strict=True)
    )
    assert {c: a for c, a in balance.items() if a} == {c: a for c, a in received.items() if a}

    expected = entitlements(usage, pools, split)
    for holder, currency, paid in zip(
        payouts.payouts["rights_holder_id"],
        payouts.payouts["currency"],
        series_to_atoms(payouts.payouts["amount_paid"]),
        strict=True,
    ):
        minor_unit = ATOMS_PER_UNIT if currency == "JPY" else CENT
        assert paid % minor_unit == 0
        # Splitting in atoms may shift a few of them between payees; never a visible unit more.
        assert abs(paid - expected[holder, currency]) <= minor_unit + 1000


@given(usage_rows, pool_rows, splits, st.randoms(use_true_random=False), st.integers(1, 5))
def test_neither_order_nor_cut_of_the_usage_changes_a_bit(usage, pools, split, random, size):
    """Invariant 2: equal money is an equal hash, however it came."""

    def sha256(frames, pool_rows):
        ledger = build_ledger(frames, pool_frame(pool_rows))
        payouts = build_payouts(ledger, share_frame(split))
        return ledger_sha256({"2025-03": (ledger, payouts.payouts, payouts.balance)})

    whole = sha256([usage_frame(usage)], pools)
    shuffled, shuffled_pools = list(usage), list(pools)
    random.shuffle(shuffled)
    random.shuffle(shuffled_pools)
    pieces = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    assert sha256([usage_frame(piece) for piece in pieces], shuffled_pools) == whole


@pytest.mark.parametrize("column", ["units", "amount"])
def test_different_money_is_a_different_hash(column):
    rows = [("f", "DE", "all", "EUR", "A", None, 1, 5 * CENT)]
    changed = [(*rows[0][:6], 2, rows[0][7]) if column == "units" else (*rows[0][:7], 6 * CENT)]
    hashes = set()
    for each in (rows, changed):
        ledger = build_ledger([usage_frame(each)], pool_frame([]))
        payouts = build_payouts(ledger, sole_holders("A"))
        hashes.add(ledger_sha256({"2025-03": (ledger, payouts.payouts, payouts.balance)}))
    assert len(hashes) == 2


def test_the_invariants_find_what_is_broken():
    """A guard that cannot fail guards nothing."""
    assert invariants.rows_are_accounted_for(invariants.RowCount(10, 7, 2, 0))
    assert not invariants.rows_are_accounted_for(invariants.RowCount(10, 7, 2, 1))
    assert invariants.units_are_accounted_for(10, 8, 1)
    assert invariants.ids_are_counted_once(pl.Series(["a", "b", "a"]))
    assert invariants.rejections_are_recorded(2, 1, 0)
    assert invariants.rejections_are_recorded(2, 2, 1)
    usage = usage_frame([("f", "DE", "all", "EUR", "A", None, 1, 5 * CENT)])
    ledger = build_ledger([usage], pool_frame([]))
    assert invariants.ledger_balances(ledger.head(1))
    balance = build_payouts(ledger, sole_holders("A")).balance
    broken = balance.with_columns(atoms_to_series("paid", [5 * CENT - 1]))
    assert invariants.money_is_accounted_for(broken)
