"""`make bench`: each stage's throughput and memory, beside plain Polars without any audit.

One simulated hour is served over HTTP and taken from raw to matched; then plain Polars does the
bare work on the same bytes: parse, filter, distinct by event id, join, group. CPU seconds are of
this process, user and system; the simulated services run in a process of their own. Report files
are measured in ``reports``.
"""

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks import reports
from royalty_assets.demo import SIMULATOR_URL_VARIABLE, simulated_services, write_demo_project
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.catalog import take_catalog
from royalty_assets.pipeline.context import PipelineContext
from royalty_assets.pipeline.match import match
from royalty_assets.pipeline.payload_store import stored_payloads
from royalty_assets.pipeline.validate import validate
from royalty_assets.settings import Settings, load_project
from royalty_assets.simulator.scenario import Scenario
from royalty_assets_tests.projects import take_in

EVENTS = 200_000
RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Measure, show a table, and leave the figures in results.json."""
    scale = float(os.environ.get("SCALE", "1"))
    # Sonora has 45 % of the plays, all of them in the one hour.
    scenario = Scenario(events=int(EVENTS * scale / 0.45), recordings=100_000, hours=1)
    # First, while this process is small: a child's peak memory begins with its parent's.
    of_reports = reports.measure(int(reports.ROWS * scale))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_demo_project(home, scenario)
        with simulated_services(scenario) as url:
            os.environ[SIMULATOR_URL_VARIABLE] = url
            session = PipelineSession(Settings(home=home), load_project(home))
            rows = measure(session.context)
            session.close()
    show(rows, of_reports)
    results = {"telemetry": rows, "reports": of_reports}
    RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")


def measure(context: PipelineContext) -> list[dict[str, object]]:
    """One hour of sonora, stage by stage, and the peer."""
    feed = context.project.feed("sonora")
    month = Partition.of(Cadence.MONTHLY, feed.start)
    (hour,) = feed.partitions(month, context.now())
    take_catalog(context)
    rows = [
        timed("raw", lambda: take_in(context, feed, [hour])),
        timed("validated", lambda: validate(context, feed, hour)),
        timed("matched", lambda: match(context, feed, hour)),
    ]
    commit = context.registry.commit("sonora", "validated", hour.key)  # type: ignore[arg-type]
    assert commit is not None
    events = commit.counts["received"]
    whole = {
        "work": "raw → matched",
        "cpu_seconds": sum(float(str(row["cpu_seconds"])) for row in rows),
        "peak_memory_mib": rows[-1]["peak_memory_mib"],
    }
    rows += [whole, timed("plain Polars, no audit", lambda: plain_polars(context, hour))]
    for row in rows:
        row["events"] = events
        row["events_per_cpu_second"] = round(events / float(str(row["cpu_seconds"])))
    return rows


def timed(work: str, call: Callable[[], object]) -> dict[str, object]:
    """CPU seconds of a call, and the process's peak memory after it."""
    start = time.process_time()
    call()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"work": work, "cpu_seconds": round(seconds, 3), "peak_memory_mib": round(peak)}


def plain_polars(context: PipelineContext, hour: Partition) -> pl.DataFrame:
    """The bare work on the same bytes: nothing is hashed, refused by name, or kept."""
    raw = next(iter(context.registry.batches("sonora", "raw", hour.key).values()))  # type: ignore[arg-type]
    pages = [b"".join(payload.chunks) for payload in stored_payloads(context.lake, raw.objects)]
    schema = dict.fromkeys(
        ("event_id", "played_at", "user_id", "isrc", "title", "artist", "territory", "tier"),
        pl.String,
    ) | {"played_ms": pl.String}
    lines = b"\n".join(json.dumps(e).encode() for page in pages for e in json.loads(page)["events"])
    catalog = pl.read_csv(context.home / "catalog/recordings.csv").select("isrc", "recording_id")
    return (
        pl.read_ndjson(lines, schema=schema)
        .filter(pl.col("event_id").is_not_null() & pl.col("played_at").is_not_null())
        .unique("event_id")
        .join(catalog, on="isrc", how="left")
        .group_by("recording_id", "territory", "tier")
        .len()
    )


def table_of(title: str, unit: str, rows: list[dict[str, object]]) -> Table:
    """Work, how much of it, CPU seconds, rate and memory."""
    table = Table(title=title, title_justify="left")
    table.add_column("work")
    for name in (unit, "CPU s", f"thousand {unit} per CPU s", "peak MiB"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row["work"]),
            f"{row[unit]:,}",
            f"{row['cpu_seconds']:.2f}",
            f"{int(str(row[f'{unit}_per_cpu_second'])) / 1000:.0f}",
            str(row["peak_memory_mib"]),
        )
    return table


def show(telemetry: list[dict[str, object]], files: list[dict[str, object]]) -> None:
    """The tables."""
    of_files = table_of("Report files into canonical Parquet", "rows", files)
    known = reports.DSRF_ROWS_PER_CPU_SECOND / 1000
    of_files.add_row(
        "dsr, ddexnet/dsrf (as published, not of this run)", "", "", f"{known:.0f}", ""
    )
    console = Console()
    console.print(table_of("One hour of telemetry, 100,000 recordings", "events", telemetry))
    console.print(of_files)


if __name__ == "__main__":
    main()
