"""`make bench-payouts`: from a ledger to lines in Parquet and what each payee is paid.

A ledger of 1, 2.5 and 5 million rows, each of three shares, is streamed through in one process;
beside it DuckDB runs the obvious SQL on the same files (``payouts_peer``). Each measurement is a
process of its own on one thread; CPU seconds are user and system from the first byte read to the
last byte written, imports left out.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.matching import ONE_THREAD, SPLINK_PYTHON
from royalty_assets.domain.accounts import Accounts
from royalty_assets.domain.catalog import SHARE_SCHEMA
from royalty_assets.domain.contracts import NO_CONTRACTS
from royalty_assets.domain.invariants import journal_balances, money_is_accounted_for
from royalty_assets.domain.ledger import LEDGER_SCHEMA, Account
from royalty_assets.domain.payouts import PayoutBuilder
from royalty_assets.domain.rates import Rates
from royalty_assets.domain.splits import ATOMS, to_amount_column
from royalty_assets.domain.terms import Period
from royalty_assets.storage.parquet import write_frames

HERE = Path(__file__).parent
RESULTS = HERE / "payouts.json"
ROWS = (1_000_000, 2_500_000, 5_000_000)
PEER_PYTHON = Path(os.environ.get("PEER_PYTHON") or SPLINK_PYTHON)
RECORDINGS = 200_000
PAYEES = 20_000
MEMORY_MAX_MIB = 1536
_ROWS_READ_AT_ONCE = 200_000
_TERRITORIES = ("BR", "DE", "FR", "GB", "JP", "MX", "SE", "US")
_CURRENCIES = ("EUR", "GBP", "USD")
_SPLITS = ((33_333_333, 33_333_333, 33_333_334), (50_000_000, 30_000_000, 20_000_000),
           (12_500_000, 80_000_001, 7_499_999))  # fmt: skip


def write_shares(path: Path) -> None:
    """Three holders a recording, in three kinds of split."""
    rows = [
        (f"R{n:07d}", holder, f"Holder {holder}", parts)
        for n in range(RECORDINGS)
        for holder, parts in zip(_holders(n), _SPLITS[n % len(_SPLITS)], strict=True)
    ]
    pl.DataFrame(rows, schema=SHARE_SCHEMA, orient="row").write_parquet(path)


def _holders(recording: int) -> list[str]:
    first = recording * 7919 % PAYEES
    return [f"H{(first + n * 6311) % PAYEES:05d}" for n in range(3)]


def write_ledger(path: Path, rows: int) -> None:
    """Lines of amounts of 18 decimals, sorted as a ledger is, and the receivables they sum to."""
    number = pl.int_range(rows, dtype=pl.UInt64)
    # A multiplicative hash: the same amounts everywhere, spread over 0 to 3.49 units.
    spread = number * 11_400_714_819_323_198_485 // 2**11 % 3_490_000_000_000_000_000
    lines = pl.select(
        feed=pl.lit("sonora"),
        account=pl.lit(str(Account.RECORDING_PAYABLE)),
        territory=_one_of(_TERRITORIES, number // 3),
        tier=_one_of(("ad_supported", "premium"), number // 24),
        use_type=pl.lit("Stream"),
        currency=_one_of(_CURRENCIES, number),
        recording_id=pl.format(
            "R{}", (number // 48 * 131 % RECORDINGS).cast(pl.String).str.zfill(7)
        ),
        reason=pl.lit(""),
        units=(spread % 997 + 1).cast(pl.Int64),
        amount=spread.cast(ATOMS),
    )
    owed = lines.group_by("currency").agg(pl.col("units").sum(), pl.col("amount").sum())
    receivables = owed.with_columns(
        feed=pl.lit("sonora"), account=pl.lit(str(Account.RECEIVABLE)),
        territory=pl.lit("Worldwide"), tier=pl.lit("all"), use_type=pl.lit("Stream"),
        recording_id=pl.lit(""), reason=pl.lit(""),
    )  # fmt: skip
    key = [name for name in LEDGER_SCHEMA if name not in {"units", "amount"}]
    both = pl.concat(
        [
            receivables.select(LEDGER_SCHEMA.keys()),
            lines.with_columns(pl.col("amount") * pl.lit(-1, ATOMS)),
        ]
    ).sort(key)
    write_frames(path, both.with_columns(to_amount_column(both["amount"])).iter_slices(100_000))


def _one_of(values: tuple[str, ...], number: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(values)).gather(number % len(values))


def pay_out(folder: Path) -> dict[str, object]:
    """Ours: streamed, and checked."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    path = folder / "ledger.parquet"
    shares = pl.read_parquet(folder / "shares.parquet")
    builder = PayoutBuilder(shares, NO_CONTRACTS, Rates(), Period.parse("2025-03"), Accounts())
    lines = (made for part in _ledger_parts(path) for made in builder.lines(part))
    written = write_frames(folder / "lines.parquet", lines)
    brought = pl.scan_parquet(path).filter(pl.col("account") != Account.RECORDING_PAYABLE)
    made = builder.finish(brought.collect(), pl.DataFrame())
    made.payouts.write_parquet(folder / "payouts.parquet")
    made.balance.write_parquet(folder / "balance.parquet")
    broken = money_is_accounted_for(made.balance) + journal_balances(made.journal)
    after = resource.getrusage(resource.RUSAGE_SELF)
    if broken:
        raise AssertionError(broken)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_seconds": round(cpu, 2),
        "peak_memory_mib": after.ru_maxrss // 1024,
        "lines": written,
    }


def _ledger_parts(path: Path) -> Iterator[pl.DataFrame]:
    rows = pq.read_metadata(path).num_rows
    for start in range(0, rows, _ROWS_READ_AT_ONCE):
        yield pl.scan_parquet(path).slice(start, _ROWS_READ_AT_ONCE).collect()


def wrong_by(folder: Path) -> dict[str, object]:
    """What the peer pays beyond what was received, and how many payees it pays other cents."""
    balance = pl.read_parquet(folder / "balance.parquet")
    received = dict(balance.select("currency", "received").rows())
    residue = sum(balance["residue"].to_list(), Decimal(0))
    peer = pl.read_parquet(folder / "peer_payouts.parquet")
    paid = dict(peer.group_by("currency").agg(pl.col("paid").sum()).rows())
    cents = {
        c: (paid[c] - whole).quantize(Decimal("0.01")) for c, whole in sorted(received.items())
    }
    ours = pl.read_parquet(folder / "payouts.parquet")
    both = ours.join(peer, on=["rights_holder_id", "currency"], how="full")
    wrong = both.filter(pl.col("amount_paid").ne_missing(pl.col("paid"))).height
    return {
        "too_much": {currency: str(amount) for currency, amount in cents.items()},
        "payees_wrong": wrong,
        "payees": both.height,
        "our_residue": f"{residue.normalize():f}",
    }


def measure(sizes: tuple[int, ...] = ROWS) -> list[dict[str, object]]:
    """Every size, ours and the peer's."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in sizes:
            _run([sys.executable, "-m", "benchmarks.payouts", "write", name, str(rows)])
            ours = [sys.executable, "-m", "benchmarks.payouts", "ours", name]
            results.append({"rows": rows, "who": "royalty_assets"} | json.loads(_run(ours)))
            if not PEER_PYTHON.exists():
                continue
            for kind in ("decimal", "double"):
                peer = [str(PEER_PYTHON), str(HERE / "payouts_peer.py"), name, kind]
                told = json.loads(_run(peer)) | wrong_by(folder)
                results.append({"rows": rows, "who": f"DuckDB, {kind}"} | told)
    return results


def _run(command: list[str]) -> str:
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=HERE.parent
    )
    return done.stdout


def table_of(results: list[dict[str, object]]) -> Table:
    """Sizes, CPU seconds, ours as a multiple of theirs, memory, and cents that are wrong."""
    table = Table(title="Payouts, three shares a row", title_justify="left")
    for name in ("rows", "who"):
        table.add_column(name)
    for name in ("CPU s", "ours / this", "peak MiB", "paid beyond receipts", "payees wrong"):
        table.add_column(name, justify="right")
    ours = {row["rows"]: row["cpu_seconds"] for row in results if row["who"] == "royalty_assets"}
    for row in results:
        beyond = row.get("too_much", {})
        assert isinstance(beyond, dict)
        table.add_row(
            f"{row['rows']:,}", str(row["who"]), f"{row['cpu_seconds']:.2f}",
            f"{float(str(ours[row['rows']])) / float(str(row['cpu_seconds'])):.2f}",
            str(row["peak_memory_mib"]),
            ", ".join(f"{amount} {currency}" for currency, amount in beyond.items()) or "0.00",
            f"{row['payees_wrong']:,} of {row['payees']:,}" if beyond else "0",
        )  # fmt: skip
    return table


def main() -> None:
    """Measure, show a table, and leave the figures in payouts.json."""
    scale = float(os.environ.get("SCALE", "1"))
    console = Console()
    if not PEER_PYTHON.exists():
        console.print("DuckDB is not installed: `make bench-payouts` puts it into .venv/splink")
    results = measure(tuple(int(rows * scale) for rows in ROWS))
    console.print(table_of(results))
    RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")
    for row in results:
        if row["who"] == "royalty_assets" and int(str(row["peak_memory_mib"])) > MEMORY_MAX_MIB:
            raise SystemExit(f"{row['rows']} rows took more than {MEMORY_MAX_MIB} MiB")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", folder, rows]:
            write_shares(Path(folder) / "shares.parquet")
            write_ledger(Path(folder) / "ledger.parquet", int(rows))
        case ["ours", folder]:
            print(json.dumps(pay_out(Path(folder))))
        case _:
            main()
