"""The validated stage: raw payloads become canonical usage lines, cut into windows.

Rows are read and put to their model in chunks. Accepted lines wait per window, in memory up to
``WAITING_ROWS_MAX`` and on disk beyond; then each window is de-duplicated and committed as a
batch of its own. What is refused goes to the dead letters as it is found.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from royalty_assets.domain import invariants
from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.feeds import Feed, InboxSource
from royalty_assets.domain.usage import USAGE_LINE_SCHEMA, RecordKind
from royalty_assets.domain.validation import (
    Rejection,
    SourceRow,
    deduplicate,
    usage_lines,
    validate_rows,
)
from royalty_assets.domain.windows import Partition, Window
from royalty_assets.pipeline.context import (
    Outcome,
    PipelineContext,
    commit_batch,
    green_input,
    next_revision,
    standing,
)
from royalty_assets.pipeline.ingest import hive_folder
from royalty_assets.pipeline.payload_store import StoredPayload, stored_payloads
from royalty_assets.sources.delimited import DelimitedFile, Totals, UnreadableFileError
from royalty_assets.sources.inbox import (
    PartitionOfRow,
    rows_by_partition,
    rows_of_partition,
)
from royalty_assets.sources.rows import ChunkReader, event_rows, in_chunks
from royalty_assets.sources.templates import templates_sha256
from royalty_assets.storage.lake import put_frame, read_frame
from royalty_assets.storage.registry import DeadLetter, PartitionRevision

VALIDATOR_VERSION = "1"
"""Changes whenever the same bytes may come out as other lines."""
CHUNK_ROWS = 20_000
WAITING_ROWS_MAX = 400_000
CUT_REPORT_BYTES_MAX = 2 << 20
"""A report of several months is cut once and kept while its months are validated, up to this
size; a larger one is read again for each of its months, so that memory stays bounded."""


@dataclass(slots=True)
class _Tally:
    """What has been seen of a partition so far."""

    received: int = 0
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    units: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)

    def find(self, check: str, findings: list[str]) -> None:
        self.findings.setdefault(check, []).extend(findings)


def validated(context: PipelineContext, feed: Feed, partition: Partition) -> Commit | None:
    """The commit in force, if there is nothing to validate anew.

    Raises:
        StageBlockedError: if the raw data is not committed, or is red.
    """
    _, (raw,) = green_input(context, feed.name, Stage.RAW, partition.key)
    return standing(
        context, feed.name, Stage.VALIDATED, partition.key, _input_sha256(context, feed, raw)
    )


def _input_sha256(context: PipelineContext, feed: Feed, raw: Batch) -> str:
    """A digest of all that decides which lines come out: bytes, rules, templates, times."""
    parts = [
        raw.input_sha256,
        VALIDATOR_VERSION,
        str(feed.window_minutes),
        str(feed.rejected_fraction_max),
    ]
    if feed.records is RecordKind.REPORT_LINES:
        parts.append(templates_sha256(context.templates, feed.records))
    if isinstance(feed.source, InboxSource):
        parts += [str(feed.start), str(feed.end)]
    return combined_sha256(parts)


def validate(context: PipelineContext, feed: Feed, partition: Partition) -> Outcome:
    """Validate one partition of a feed.

    Raises:
        StageBlockedError: if its raw data is not committed, or is red.
    """
    if (commit := validated(context, feed, partition)) is not None:
        return Outcome(partition.key, commit, changed=False)
    _, (raw,) = green_input(context, feed.name, Stage.RAW, partition.key)
    revision = next_revision(context, feed.name, Stage.VALIDATED, partition.key)
    context.registry.discard_uncommitted(revision)
    tally = _Tally()
    with tempfile.TemporaryDirectory(dir=context.spool()) as folder:
        waiting = _WaitingLines(feed, partition, Path(folder))
        for payload in stored_payloads(context.lake, raw.objects):
            _take_payload(context, feed, partition, revision, payload, tally, waiting)
        batches = [
            _commit_window(context, feed, partition, revision, window, lines, tally, raw.sha256)
            for window, lines in waiting.windows()
        ]
    commit = Commit(
        feed=feed.name,
        stage=Stage.VALIDATED,
        partition_key=partition.key,
        revision=revision.revision,
        input_sha256=_input_sha256(context, feed, raw),
        batch_ids=tuple(batch.batch_id for batch in batches),
        counts={
            "received": tally.received,
            "accepted": tally.accepted,
            "rejected": tally.rejected,
            "duplicates": tally.repeated,
            "units": tally.units,
        },
        checks=_checks(context, feed, revision, batches, tally),
    )
    context.registry.commit_partition(commit)
    return Outcome(partition.key, commit)


def _take_payload(
    context: PipelineContext,
    feed: Feed,
    partition: Partition,
    revision: PartitionRevision,
    payload: StoredPayload,
    tally: _Tally,
    waiting: "_WaitingLines",
) -> None:
    totals = None
    try:
        rows, totals = _rows(context, feed, partition, payload)
        for chunk in in_chunks(rows, CHUNK_ROWS):
            result = validate_rows(feed.records, chunk, partition.window)
            tally.received += len(chunk)
            tally.rejected += len(result.rejections)
            _bury(context, revision, payload.name, result.rejections)
            waiting.add(usage_lines(result))
    except UnreadableFileError as error:
        # It was whole when it was received, so the source itself sent it broken.
        letter = DeadLetter(payload.sha256, 0, payload.name, error.rule, "", error.reason, "")
        context.registry.add_dead_letters(revision, [letter])
        tally.received += 1
        tally.rejected += 1
        tally.find("every_payload_is_readable", [f"{payload.name}: {error.reason}"])
    if totals is not None:
        tally.find(
            "report_totals_agree", [f"{payload.name}: {told}" for told in totals.differences()]
        )


def _rows(
    context: PipelineContext, feed: Feed, partition: Partition, payload: StoredPayload
) -> tuple[Iterable[SourceRow | Rejection], Totals | None]:
    if feed.records is RecordKind.PLAY_EVENTS:
        return event_rows(feed.source.dialect, payload.sha256, payload.chunks), None
    if not isinstance(feed.source, InboxSource):
        opened = read_report(context, payload, feed.records)
        return opened.rows(), opened.totals
    partition_of = PartitionOfRow(feed, feed.cadence)
    if payload.size_bytes > CUT_REPORT_BYTES_MAX:
        opened = read_report(context, payload, feed.records)
        return rows_of_partition(opened, partition_of, partition.key), opened.totals

    reading = combined_sha256(
        [feed.name, str(feed.end), templates_sha256(context.templates, feed.records)]
    )

    def cut() -> tuple[dict[str, list[SourceRow | Rejection]], Totals]:
        opened = read_report(context, payload, feed.records)
        return rows_by_partition(opened, partition_of), opened.totals

    by_partition, totals = context.cut_report(f"{payload.sha256}\t{reading}", cut)
    return by_partition.get(partition.key, []), totals


def read_report(
    context: PipelineContext, payload: StoredPayload, records: RecordKind
) -> DelimitedFile:
    """Open a stored report file by the template that recognises it.

    Raises:
        UnreadableFileError: if none does.
    """
    stream = BufferedReader(ChunkReader(payload.chunks))
    templates = [t for t in context.templates if t.records == records]
    return DelimitedFile(payload.sha256, stream, templates)


def _bury(
    context: PipelineContext,
    revision: PartitionRevision,
    source: str,
    rejections: Iterable[Rejection],
) -> None:
    context.registry.add_dead_letters(
        revision,
        (
            DeadLetter(
                r.source_sha256, r.row_number, source[-512:], r.rule, r.value, r.reason, r.content
            )
            for r in rejections
        ),
    )


def _commit_window(
    context: PipelineContext,
    feed: Feed,
    partition: Partition,
    revision: PartitionRevision,
    window: Window,
    lines: pl.DataFrame,
    tally: _Tally,
    raw_sha256: str,
) -> Batch:
    result = deduplicate(lines)
    conflicting = result.conflicting
    context.registry.add_dead_letters(
        revision,
        (
            DeadLetter(
                row["source_sha256"],
                row["row_number"],
                f"{feed.name} {window.label}",
                "event_id:conflicting",
                row["event_id"],
                "this event id was also sent with other content, which comes first and counts",
                str({name: str(value) for name, value in row.items() if value is not None})[:2000],
            )
            for row in conflicting.iter_rows(named=True)
        ),
    )
    units = int(result.lines["units"].sum())
    tally.accepted += result.lines.height
    tally.rejected += conflicting.height
    tally.repeated += result.repeated
    tally.units += units
    folder = f"{feed.name}/{Stage.VALIDATED}/{hive_folder(partition)}"
    stored = put_frame(context.lake, folder, window.label, result.lines)

    batch = Batch(
        feed=feed.name,
        stage=Stage.VALIDATED,
        partition_key=partition.key,
        window_start=window.start,
        window_label=window.label,
        revision=0,
        input_sha256=raw_sha256,
        objects=(stored,),
        counts={"lines": result.lines.height, "units": units},
    )
    return commit_batch(context, batch)


def _checks(
    context: PipelineContext,
    feed: Feed,
    revision: PartitionRevision,
    batches: list[Batch],
    tally: _Tally,
) -> dict[str, list[str]]:
    """The gate. Accepted lines and dead letters are counted where they rest, not as tallied."""
    in_lake = sum(
        pq.read_metadata(context.lake.local_path(stored)).num_rows
        for batch in batches
        for stored in batch.objects
    )
    twice = [
        finding
        for batch in batches
        for stored in batch.objects
        for finding in invariants.ids_are_counted_once(
            read_frame(context.lake, stored, ["event_id"])["event_id"]
        )
    ]
    recorded, unexplained = context.registry.count_dead_letters(revision)
    rows = invariants.RowCount(tally.received, in_lake, recorded, tally.repeated)
    too_many = []
    if tally.received and tally.rejected > feed.rejected_fraction_max * tally.received:
        too_many.append(
            f"{tally.rejected} of {tally.received} rows were rejected, more than "
            f"{feed.rejected_fraction_max:%}; see the dead letters, or raise "
            "rejected_fraction_max in feeds.yaml"
        )
    return {
        "every_row_is_accounted_for": invariants.rows_are_accounted_for(rows),
        "no_event_is_counted_twice": twice,
        "every_rejection_is_recorded": invariants.rejections_are_recorded(
            tally.rejected, recorded, unexplained
        ),
        "every_payload_is_readable": tally.findings.get("every_payload_is_readable", []),
        "report_totals_agree": tally.findings.get("report_totals_agree", []),
        "rejects_are_within_limits": too_many,
    }


class _WaitingLines:
    """Accepted lines, waiting by window until all of the partition has been read."""

    def __init__(self, feed: Feed, partition: Partition, folder: Path) -> None:
        self._windows = partition.windows(feed.window_length)
        self._starts = pl.DataFrame(
            {"window": range(len(self._windows)), "starts": [w.start for w in self._windows]},
            schema={"window": pl.Int64, "starts": USAGE_LINE_SCHEMA["used_at"]},
        )
        self._folder = folder
        self._in_memory: list[pl.DataFrame] = []
        self._rows_in_memory = 0
        self._spilled = 0

    def add(self, lines: pl.DataFrame) -> None:
        """Take accepted lines of any windows of the partition."""
        if lines.is_empty():
            return
        self._in_memory.append(lines)
        self._rows_in_memory += lines.height
        if self._rows_in_memory >= WAITING_ROWS_MAX:
            self._spill()

    def _by_window(self) -> pl.DataFrame:
        lines = (
            pl.concat(self._in_memory)
            if self._in_memory
            else pl.DataFrame(schema=USAGE_LINE_SCHEMA)
        )
        return (
            lines.sort("used_at")
            .join_asof(self._starts, left_on="used_at", right_on="starts")
            .drop("starts")
        )

    def _spill(self) -> None:
        for (number,), lines in (
            self._by_window().partition_by("window", as_dict=True, include_key=False).items()
        ):
            folder = self._folder / str(number)
            folder.mkdir(exist_ok=True)
            lines.write_ipc(folder / f"{self._spilled:06d}.arrow", compression="lz4")
        self._spilled += 1
        self._in_memory, self._rows_in_memory = [], 0

    def windows(self) -> Iterator[tuple[Window, pl.DataFrame]]:
        """Each window that has lines, in order, with all of its lines."""
        in_memory = self._by_window().partition_by("window", as_dict=True, include_key=False)
        self._in_memory = []
        for number, window in enumerate(self._windows):
            spilled = sorted((self._folder / str(number)).glob("*.arrow"))
            parts = [pl.read_ipc(path) for path in spilled]
            if (rest := in_memory.pop((number,), None)) is not None:
                parts.append(rest)
            if parts:
                yield window, pl.concat(parts)
