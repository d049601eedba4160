"""Report files: from bytes to validated canonical Parquet, beside a naive Polars read.

Each measurement is a process of its own; CPU seconds are user and system from the first byte
read to the last byte written, imports left out. The peer reads the same file with Polars, casts
units and money and writes Parquet, without looking at anything else. The figure for
``ddexnet/dsrf`` is a measurement of its own (patched to run on Python 3.11, 200,000 rows in 4.8 s),
not of this run.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

ROWS = 1_000_000
DSRF_ROWS_PER_CPU_SECOND = 40_000
_SEED = 20250301
_STORES = ("Google Play", "Spotify", "Deezer", "Apple Music", "TIDAL")
_TERRITORIES = ("GB", "US", "DE", "FR", "XK", "JP", "BR", "MX")


def write_csv(path: Path, rows: int) -> None:
    """The project's own layout: 8 columns."""
    chance = random.Random(_SEED)  # noqa: S311 - the same file each time
    with path.open("w", encoding="utf-8") as file:
        file.write("Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n")
        for number in range(rows):
            units = chance.randint(1, 900)
            file.write(
                f"2025-03-{number % 28 + 1:02d},{chance.choice(_TERRITORIES)},"
                f"USABC{number % 50_000:07d},Song {number % 50_000},Artist {number % 5_000},"
                f"{units},{units * 0.00027:.9f},EUR\n"
            )


def write_wide_csv(path: Path, rows: int) -> None:
    """TuneCore's layout: 21 columns, 14 of them read."""
    chance = random.Random(_SEED)  # noqa: S311 - the same file each time
    with path.open("w", encoding="utf-8") as file:
        file.write(
            "Sales Period,Posted Date,Store Name,Country Of Sale,Artist,Release Type,"
            "Release Title,Song Title,Label,UPC,Optional UPC,TC Song ID,Optional ISRC,Sales Type,"
            "# Units Sold,Per Unit Price,Net Sales,Net Sales Currency,Exchange Rate,Total Earned,"
            "Currency\n"
        )
        for number in range(rows):
            units = chance.randint(1, 900)
            file.write(
                f"2025-02-01,2025-03-01,{chance.choice(_STORES)},{chance.choice(_TERRITORIES)},"
                f"Artist {number % 5_000},Song,Album {number % 9_000},Song {number % 50_000},"
                f"Test Records,036000291452,,USABC{number % 50_000:07d},,Streaming,{units},"
                f"0.000342,"
                f"{units * 0.000342:.8f},USD,0.79,{units * 0.00027:.9f},GBP\n"
            )


def write_dsr(path: Path, rows: int) -> None:
    """A Basic Audio report in blocks: a resource and its usage in four territories each."""
    chance = random.Random(_SEED)  # noqa: S311 - the same file each time
    territories = _TERRITORIES[:4]
    blocks = max((rows - 6) // 5, 1)
    with path.open("w", encoding="utf-8") as file:
        file.write(
            "HEAD\tdsrf/4.0/23/4.0\tBasicAudioProfile\t1.2\tM1\t2025-04-10T09:00:00Z\t1\t1\t"
            "2025-03-01\t2025-03-31\tPADPIDA2011072101T\tStreamly\tPremium\t"
            "PADPIDA2014999999Z\tLabel\t\n"
        )
        totals = dict.fromkeys(territories, 0)
        body = []
        for number in range(blocks):
            body.append(
                f"AS01.01\t{number}\tA1\ttrk:{number}\tUSABC{number:07d}\tSong {number}\t\t"
                f"Artist {number % 5_000}\t\tPT3M\tSoundRecording\ttrue\n"
            )
            for territory in territories:
                streams = chance.randint(1, 900)
                totals[territory] += streams
                body.append(
                    f"SU02\t{number}\tS{territory}\tT{number}{territory}\t\tA1\ttrue"
                    f"\t{streams}\t\t\n"
                )
        for territory, usages in totals.items():
            file.write(
                f"SY01.01\tS{territory}\t\t\tSubscriptionModel\tOnDemandStream\t{territory}\tPremium"
                f"\t{usages}\t\tEUR\t{usages * 0.004:.6f}\t\t\t\n"
            )
        file.writelines(body)
        lines = len(body) + len(territories) + 2
        file.write(f"FOOT\t{lines}\t{lines}\t{len(territories)}\t{blocks}\t{blocks}\n")


def ours(path: Path, target: Path) -> int:
    """Our reader: every row validated, noted, and written as canonical lines."""
    from royalty_assets.sources.reports import file_sha256, open_report
    from royalty_assets.sources.templates import bundled_templates
    from royalty_assets.storage.parquet import write_frames

    templates = [t for t in bundled_templates() if t.records == "report_lines"]
    with path.open("rb") as stream:
        report = open_report(file_sha256(path), stream, templates, path.name)
        rows = write_frames(target, (block.lines for block in report.blocks()))
    if any(report.findings.values()):
        raise AssertionError(report.findings)
    return rows


def naive(path: Path, target: Path) -> int:
    """Polars, reading all cells and casting the numbers; nothing else is looked at."""
    is_dsr = path.suffix == ".tsv"
    frame = pl.read_csv(
        path,
        separator="\t" if is_dsr else ",",
        quote_char=None,
        has_header=not is_dsr,
        infer_schema=False,
        truncate_ragged_lines=True,
        new_columns=[f"cell_{number}" for number in range(16)] if is_dsr else None,
    )
    numbers = {"Units", "Amount", "# Units Sold", "Total Earned", "cell_7"} & set(frame.columns)
    frame = frame.with_columns(
        pl.col(name).cast(pl.Decimal(38, 18), strict=False) for name in numbers
    )
    frame.write_parquet(target, compression="zstd", compression_level=1)
    return frame.height


FILES: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "csv": ("report.csv", write_csv),
    "wide csv": ("wide.csv", write_wide_csv),
    "dsr": ("report.tsv", write_dsr),
}
READERS = {"ours": ours, "naive Polars": naive}


def measure(rows: int = ROWS) -> list[dict[str, object]]:
    """Every reader on every file, each in a process of its own."""
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, (name, write) in FILES.items():
            path = Path(folder) / name
            write(path, rows)
            # Rows are lines of data, and of a DSR records of every kind.
            number = path.read_bytes().count(b"\n") - (path.suffix == ".csv")
            for reader in READERS:
                command = [sys.executable, "-m", "benchmarks.reports", reader, str(path)]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                cpu = json.loads(told)
                rate = {"rows": number, "rows_per_cpu_second": round(number / cpu["cpu_seconds"])}
                results.append({"work": f"{kind} → Parquet, {reader}"} | cpu | rate)
    return results


def _child(reader: str, path: Path) -> dict[str, object]:
    before = resource.getrusage(resource.RUSAGE_SELF)
    if reader == "ours":
        # What is paid once per process, not per row: imports, templates, names of territories.
        from royalty_assets.domain.territories import territory_of
        from royalty_assets.sources.reports import open_report  # noqa: F401
        from royalty_assets.sources.templates import bundled_templates
        from royalty_assets.storage.parquet import write_frames  # noqa: F401

        bundled_templates()
        territory_of("Germany")
        pl.Series(["0"]).cast(pl.Decimal(38, 18)).to_arrow()
        before = resource.getrusage(resource.RUSAGE_SELF)
    rows = READERS[reader](path, path.with_suffix(".parquet"))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if not rows:
        raise AssertionError("nothing was read")
    return {"cpu_seconds": round(cpu, 2), "peak_memory_mib": after.ru_maxrss // 1024}


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], Path(sys.argv[2]))))
