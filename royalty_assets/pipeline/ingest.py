"""The raw stage: ask the source, keep the exact bytes, commit what was delivered.

Per partition a fetching task fills a bounded queue and a storing task empties it, so that a fast
source waits for a slow disk and memory stays level. Several partitions are under way at once,
all under the feed's own limits.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from royalty_assets.domain.batches import Batch, Commit, LakeObject, Stage, combined_sha256
from royalty_assets.domain.feeds import Feed, HttpSource, InboxSource
from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.logs import bound, log_of
from royalty_assets.pipeline.attempts import attempted_async
from royalty_assets.pipeline.context import (
    Outcome,
    PipelineContext,
    begin,
    signature_of,
    standing,
)
from royalty_assets.pipeline.failures import failure_of
from royalty_assets.pipeline.payload_store import (
    altered_payloads,
    payload_names,
    payload_sha256,
    put_payloads,
)
from royalty_assets.sources.dialects import CursorSource, FileSource, open_http_source
from royalty_assets.sources.drops import open_drop
from royalty_assets.sources.inbox import InboxSource as InboxReader
from royalty_assets.sources.inbox import PartitionOfDay
from royalty_assets.sources.payloads import Delivery, Payload, Source, SourceError
from royalty_assets.storage.lake import LakeError
from royalty_assets.storage.registry import DeadLetter

_log = log_of(__name__)

PARTITIONS_AT_ONCE = 2
QUEUED_PAYLOADS_MAX = 8
OBJECT_BYTES = 16 << 20
"""Pages are collected until they make an object of about this size."""

INBOX_PARTITION = "inbox"
"""The registry's partition for files that are refused as a whole and so belong to no time."""

OpenSource = CursorSource | FileSource | InboxReader


def open_source(
    context: PipelineContext, feed: Feed, source: HttpSource | InboxSource, records: RecordKind
) -> OpenSource:
    """The implementation of a configured source, to be used as a context manager."""
    if isinstance(source, HttpSource):
        token = context.tokens.get(source.token_env) if source.token_env else None
        return open_http_source(source, token)
    cadence = Cadence.MONTHLY if records is RecordKind.POOLS else feed.cadence
    folder = context.home / source.folder
    drop = None
    if source.is_remote:
        folder = context.home / "drops" / feed.name / str(records)
        password = context.tokens.get(source.password_env) if source.password_env else None
        drop = open_drop(source, folder, password)
    return InboxReader(
        folder,
        PartitionOfDay(feed, cadence),
        [template for template in context.templates if template.records == records],
        records,
        context.inbox_looks,
        drop=drop,
        semaphore=source.semaphore,
        settle_seconds=source.settle_seconds,
    )


async def ingest(
    context: PipelineContext, feed: Feed, partitions: Sequence[Partition]
) -> AsyncGenerator[Outcome, None]:
    """Bring in a feed's partitions; yields each as soon as it is committed or has failed.

    A partition that fails is told with its problem; the others go on. Where the source cannot
    even be opened, that is each one's problem.
    """
    left = {partition.key for partition in partitions}
    try:
        async with open_source(context, feed, feed.source, feed.records) as source:
            if isinstance(source, InboxReader):
                _tell_quarantined(context, feed, source)
            async for outcome in _ingest_all(context, feed, source, partitions):
                left.discard(outcome.partition_key)
                yield outcome
    except Exception as error:
        failure = failure_of(error)
        if failure is None or not left:
            raise
        for key in sorted(left):
            yield Outcome.failed(key, failure)


async def _ingest_all(
    context: PipelineContext, feed: Feed, source: OpenSource, partitions: Sequence[Partition]
) -> AsyncGenerator[Outcome, None]:
    under_way = asyncio.Semaphore(PARTITIONS_AT_ONCE)

    async def one(partition: Partition) -> Outcome:
        async with under_way:
            return await attempted_async(
                feed.name,
                Stage.RAW,
                partition.key,
                lambda: ingest_partition(context, feed, source, Stage.RAW, partition),
            )

    tasks = [asyncio.create_task(one(partition)) for partition in partitions]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for task in tasks:
            task.cancel()


async def delivered(
    context: PipelineContext, feed: Feed, partitions: Sequence[Partition]
) -> dict[str, Commit]:
    """Partition key → commit in force, for those whose source has nothing else than before.

    A partition whose source does not answer is left out: taking it in will tell why.
    """
    found: dict[str, Commit] = {}
    async with open_source(context, feed, feed.source, feed.records) as source:

        async def look(partition: Partition) -> None:
            try:
                version_sha256 = combined_sha256([await source.version(partition)])
            except SourceError:
                return
            commit = standing(context, feed.name, Stage.RAW, partition.key, version_sha256)
            if commit is not None:
                found[partition.key] = commit

        async with asyncio.TaskGroup() as tasks:
            for partition in partitions:
                tasks.create_task(look(partition))
    return found


async def ingest_partition(
    context: PipelineContext, feed: Feed, source: Source, stage: Stage, partition: Partition
) -> Outcome:
    """Bring in one partition from an open source.

    Raises:
        SourceError: if the source does not deliver.
    """
    registry = context.registry
    # What was there before is asked first: what comes while we read makes the next version.
    version_sha256 = combined_sha256([await source.version(partition)])
    turn = begin(
        context,
        feed.name,
        stage,
        partition.key,
        lambda: standing(context, feed.name, stage, partition.key, version_sha256),
    )
    if isinstance(turn, Commit):
        return Outcome(partition.key, turn, changed=False)
    current = registry.commit(feed.name, stage, partition.key)
    is_damaged = current is not None and not current.is_green

    committed = registry.batches(feed.name, stage, partition.key).get(partition.window.label)
    stored = _Stored()
    if isinstance(source, InboxReader) and committed is not None:
        stored = _taken_before(context, committed, source.names_holding(partition.key))
    with tempfile.TemporaryDirectory(dir=context.spool()) as spool:
        await _store_all(context, feed, source, stage, partition, Path(spool), stored)

    payloads_sha256 = combined_sha256(sorted(stored.sha256s))
    # The same payloads in another arrangement of objects say nothing new.
    if committed is None or committed.input_sha256 != payloads_sha256 or is_damaged:
        committed = Batch(
            feed=feed.name,
            stage=stage,
            partition_key=partition.key,
            window_start=partition.window.start,
            window_label=partition.window.label,
            revision=0 if committed is None else committed.revision + 1,
            input_sha256=payloads_sha256,
            objects=tuple(stored.objects),
            counts={"payloads": len(stored.sha256s), "bytes": stored.size_bytes},
        )
        with bound(batch=committed.batch_id):
            registry.commit_batch(committed, turn, signature=signature_of(context, committed))
            _log.debug("batch %s is committed", committed.batch_id)
    commit = Commit(
        feed=feed.name,
        stage=stage,
        partition_key=partition.key,
        revision=turn.revision,
        input_sha256=version_sha256,
        batch_ids=(committed.batch_id,),
        counts=dict(committed.counts)
        | {
            "payloads_repeated": stored.repeated,
            "payloads_replaced": len(stored.to_replace - stored.sha256s),
        },
        checks={
            "every_payload_is_kept_as_sent": await asyncio.to_thread(
                altered_payloads, context.lake, committed
            )
        },
    )
    if stage is Stage.RAW and stored.sha256s:
        # Before the commit: afterwards nothing would look here again.
        whole = [("events", payloads_sha256, stored.size_bytes)]
        files = stored.files if feed.records is RecordKind.REPORT_LINES else whole
        registry.add_deliveries(feed.name, partition.key, files, context.now())
    registry.commit_partition(commit, turn)
    return Outcome(partition.key, commit)


@dataclass(slots=True)
class _Stored:
    """What has been stored so far; the payloads in ``pending`` wait for their object to fill."""

    objects: list[LakeObject] = field(default_factory=list)
    sha256s: set[str] = field(default_factory=set)
    size_bytes: int = 0
    repeated: int = 0
    to_replace: set[str] = field(default_factory=set)
    files: list[tuple[str, str, int]] = field(default_factory=list)
    pending: list[tuple[str, Payload]] = field(default_factory=list)
    pending_bytes: int = 0


async def _store_all(
    context: PipelineContext,
    feed: Feed,
    source: Source,
    stage: Stage,
    partition: Partition,
    spool: Path,
    stored: _Stored,
) -> None:
    """Fetch and store every payload of a partition, adding to ``stored``."""
    queue: asyncio.Queue[Payload | None] = asyncio.Queue(QUEUED_PAYLOADS_MAX)

    async def fetch() -> None:
        async for payload in source.payloads(partition, spool):
            await queue.put(payload)
        await queue.put(None)

    folder = f"{feed.name}/{stage}/{hive_folder(partition)}"
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fetch())
            while (payload := await queue.get()) is not None:
                await asyncio.to_thread(_store, context, folder, partition, stored, payload)
    except* (SourceError, LakeError, OSError) as errors:
        # The one failure is what happened; that it came from a group of tasks is no news.
        raise errors.exceptions[0] from None
    _flush(context, folder, partition, stored)


def _taken_before(context: PipelineContext, committed: Batch, there_now: frozenset[str]) -> _Stored:
    """What an inbox has delivered for a partition before, and still counts.

    A file that has been moved away stays taken. One that holds rows of the partition now is read
    as it is now: with other bytes it replaces what had its name. Each object holds one payload.
    """
    kept = _Stored()
    for stored in committed.objects:
        for name, sha256, size_bytes in payload_names(context.lake, stored):
            if name in there_now:
                kept.to_replace.add(sha256)
            else:
                kept.objects.append(stored)
                kept.sha256s.add(sha256)
                kept.size_bytes += size_bytes
    return kept


async def deliveries(
    context: PipelineContext, feed: Feed, after: str, limit: int
) -> list[Delivery]:
    """What a feed has delivered, and of an inbox also what it had: it may have been corrected."""
    async with open_source(context, feed, feed.source, feed.records) as source:
        listed = await source.deliveries(after, limit)
        if not isinstance(source, InboxReader):
            return listed
        known = {delivery.key for delivery in listed}
        before = [
            Partition.parse(feed.cadence, commit.partition_key)
            for commit in context.registry.commits(Stage.RAW, feed.name)
            if commit.batch_ids and after < commit.partition_key not in known
        ]
        listed += [Delivery(each.key, await source.version(each)) for each in before]
        return sorted(listed, key=lambda delivery: delivery.key)[:limit]


def _store(
    context: PipelineContext, folder: str, partition: Partition, stored: _Stored, payload: Payload
) -> None:
    sha256 = payload_sha256(payload)
    size_bytes = len(payload.body) if payload.path is None else payload.path.stat().st_size
    stored.files.append((payload.name, sha256, size_bytes))
    if sha256 in stored.sha256s:
        stored.repeated += 1
        return
    stored.sha256s.add(sha256)
    stored.size_bytes += size_bytes
    if payload.path is not None:
        stored.objects.append(
            put_payloads(context.lake, folder, partition.window.label, [(sha256, payload)])
        )
        return
    stored.pending.append((sha256, payload))
    stored.pending_bytes += size_bytes
    if stored.pending_bytes >= OBJECT_BYTES:
        _flush(context, folder, partition, stored)


def _flush(context: PipelineContext, folder: str, partition: Partition, stored: _Stored) -> None:
    if stored.pending:
        stored.objects.append(
            put_payloads(context.lake, folder, partition.window.label, stored.pending)
        )
        stored.pending, stored.pending_bytes = [], 0


def hive_folder(partition: Partition) -> str:
    """The folder of a partition, as engines that know hive expect it."""
    start = partition.window.start
    if partition.cadence == "hourly":
        return f"date={start:%Y-%m-%d}/hour={start:%H}"
    return f"date={start:%Y-%m-%d}"


def _tell_quarantined(context: PipelineContext, feed: Feed, source: InboxReader) -> None:
    """Record the files that are refused as a whole; once per set of such files."""
    waiting = [f"{name}: {why}" for name, why in source.waiting]
    told = combined_sha256([*sorted(file.sha256 for file in source.quarantined), "", *waiting])
    current = context.registry.commit(feed.name, Stage.RAW, INBOX_PARTITION)
    if current is None and not source.quarantined and not waiting:
        return
    if current is not None and current.input_sha256 == told:
        return
    turn = context.registry.take_turn(feed.name, Stage.RAW, INBOX_PARTITION)
    context.registry.add_dead_letters(
        turn,
        [
            DeadLetter(file.sha256, 0, file.name, file.rule, "", file.reason, "")
            for file in source.quarantined
        ],
    )
    for file in source.quarantined:
        _log.error("%s is in quarantine: %s", file.name, file.reason, extra={"feed": feed.name})
    context.registry.commit_partition(
        Commit(
            feed=feed.name,
            stage=Stage.RAW,
            partition_key=INBOX_PARTITION,
            revision=turn.revision,
            input_sha256=told,
            batch_ids=(),
            counts={
                "files": len(source.files),
                "quarantined": len(source.quarantined),
                "waiting": len(waiting),
            },
            checks={
                "every_file_is_readable": [
                    f"{file.name}: {file.reason}" for file in source.quarantined
                ]
            },
            warnings={"every_file_is_complete": waiting} if waiting else {},
        ),
        turn,
    )
