"""The catalog stage: the CSV files in the catalog folder become one versioned snapshot."""

from contextlib import suppress
from importlib.metadata import version as package_version
from pathlib import Path

import polars as pl

from royalty_assets.domain.batches import Batch, Commit, Stage, combined_sha256
from royalty_assets.domain.catalog import (
    RECORDING_SCHEMA,
    SHARE_SCHEMA,
    Catalog,
    CatalogProblem,
    CatalogRow,
    build_catalog,
)
from royalty_assets.domain.matching import MATCHER_VERSION, Matcher
from royalty_assets.domain.matching.candidates import CandidateIndex
from royalty_assets.domain.simulated_splits import simulated_shares
from royalty_assets.domain.validation import Rejection
from royalty_assets.pipeline.context import (
    CATALOG_FEED,
    CATALOG_PARTITION,
    Outcome,
    PipelineContext,
    StageBlockedError,
    StageWaitingError,
    begin,
    commit_batch,
    standing,
)
from royalty_assets.sources.delimited import DelimitedFile, readable
from royalty_assets.sources.templates import templates_sha256
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError
from royalty_assets.storage.frame_cache import FrameCache
from royalty_assets.storage.lake import file_sha256, put_frame, read_frame
from royalty_assets.storage.registry import DeadLetter, Turn

_TABLES = ("recordings", "shares", "rights")
_SNAPSHOT_LABEL = "snapshot"
DESK_RECORDINGS = "recordings-from-the-desk.csv"
"""The catalog file that the desk writes; any other file's row for an ISRC goes before its."""
_INDEX_KEPT_FROM_RECORDINGS = 20_000
"""A smaller catalog's index is made in less than a second."""


def taken(context: PipelineContext) -> Commit | None:
    """The catalog's commit in force, if its folder holds nothing else than before."""
    input_sha256 = _input_sha256(context, _file_hashes(context))
    return standing(context, CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION, input_sha256)


def simulated_splits(context: PipelineContext) -> int:
    """Of how many recordings of the catalog in force the splits are made up."""
    commit = context.registry.commit(CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION)
    return 0 if commit is None else commit.counts["recordings_with_simulated_shares"]


def _file_hashes(context: PipelineContext) -> dict[Path, str]:
    folder = context.home / context.project.catalog.folder
    files = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_file() and not path.name.startswith(".") and path.name != "README.md"
    ]
    # What was added at the desk is provisional: of two rows for an ISRC the first one counts.
    files.sort(key=lambda path: (path.name == DESK_RECORDINGS, path))
    return {path: file_sha256(path)[0] for path in files}


def _input_sha256(context: PipelineContext, hashes: dict[Path, str]) -> str:
    return combined_sha256(
        [
            context.project.catalog.missing_shares,
            *(templates_sha256(context.templates, table) for table in _TABLES),
            *(f"{readable(path.name)}:{sha256}" for path, sha256 in hashes.items()),
        ]
    )


def take_catalog(context: PipelineContext) -> Outcome:
    """Read the catalog folder and commit a snapshot, unless it is the one in force.

    Raises:
        StageBlockedError: if the folder holds no recordings.
    """
    turn = begin(context, CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION, lambda: taken(context))
    if isinstance(turn, Commit):
        return Outcome(CATALOG_PARTITION, turn, changed=False)
    config = context.project.catalog
    folder = context.home / config.folder
    hashes = _file_hashes(context)
    input_sha256 = _input_sha256(context, hashes)
    letters: list[DeadLetter] = []
    rows: dict[str, list[CatalogRow]] = {name: [] for name in _TABLES}
    for path, sha256 in hashes.items():
        _read_file(context, path, sha256, rows, letters)
    catalog, problems = build_catalog(rows["recordings"], rows["shares"], rows["rights"])
    if catalog.recordings.is_empty():
        raise StageBlockedError(
            f"the catalog folder {folder} holds no usable recordings; put a CSV with the columns "
            "isrc, title and artist there"
            + "".join(f"\n  {letter.source}: {letter.reason}" for letter in letters[:5])
        )
    by_name = {readable(path.name): sha256 for path, sha256 in hashes.items()}
    letters += [
        _letter(problem, by_name)
        for problem in problems
        if problem.source != DESK_RECORDINGS or not problem.rule.startswith("isrc:")
    ]
    mentioned = {str(row.fields.get("recording_id", "")) for row in rows["shares"]}
    # Splits are not made up while a file that may hold the true ones could not be read.
    is_whole = not any(letter.rule.startswith("file:") for letter in letters)
    policy = config.missing_shares if is_whole else "held"
    catalog, simulated = _with_missing_shares(policy, catalog, mentioned)
    return _commit(context, turn, catalog, input_sha256, letters, simulated)


def _read_file(
    context: PipelineContext,
    path: Path,
    sha256: str,
    rows: dict[str, list[CatalogRow]],
    letters: list[DeadLetter],
) -> None:
    templates = [t for t in context.templates if t.records in _TABLES]
    read: list[CatalogRow] = []
    try:
        with path.open("rb") as stream:
            opened = DelimitedFile(sha256, TextLines(stream), templates, path.name)
            for row in opened.rows():
                if isinstance(row, Rejection):
                    letters.append(_reader_letter(readable(path.name), row))
                elif isinstance(row.content, dict):
                    read.append(CatalogRow(readable(path.name), row.row_number, row.content))
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        letters.append(
            DeadLetter(sha256, 0, readable(path.name), "file:unreadable", "", reason, "")
        )
        return
    except UnreadableFileError as error:
        letters.append(DeadLetter(sha256, 0, readable(path.name), error.rule, "", error.reason, ""))
        return
    rows[opened.template.records] += read


def _reader_letter(source: str, rejection: Rejection) -> DeadLetter:
    return DeadLetter(
        rejection.source_sha256,
        rejection.row_number,
        source,
        rejection.rule,
        rejection.value,
        rejection.reason,
        rejection.content,
    )


def _letter(problem: CatalogProblem, hashes: dict[str, str]) -> DeadLetter:
    sha256 = hashes.get(problem.source, combined_sha256([problem.source, problem.value]))
    return DeadLetter(
        sha256, problem.row_number, problem.source, problem.rule, problem.value, problem.reason, ""
    )


def _with_missing_shares(policy: str, catalog: Catalog, mentioned: set[str]) -> tuple[Catalog, int]:
    """Make splits up for recordings that no share row speaks of, where configuration says so."""
    if policy != "simulated":
        return catalog, 0
    silent = catalog.recordings.filter(~pl.col("recording_id").is_in(list(mentioned)))
    shares = pl.concat([catalog.shares, simulated_shares(silent)])
    shares = shares.sort("recording_id", "rights_holder_id")
    return Catalog(catalog.recordings, shares, catalog.rights), silent.height


def _commit(
    context: PipelineContext,
    turn: Turn,
    catalog: Catalog,
    input_sha256: str,
    letters: list[DeadLetter],
    simulated: int,
) -> Outcome:
    registry = context.registry
    registry.add_dead_letters(turn, letters)
    objects = tuple(
        put_frame(context.lake, CATALOG_FEED, name, getattr(catalog, name)) for name in _TABLES
    )
    with_shares = catalog.shares["recording_id"].n_unique()

    batch = Batch(
        feed=CATALOG_FEED,
        stage=Stage.CATALOG,
        partition_key=CATALOG_PARTITION,
        window_start=context.project.start,
        window_label=_SNAPSHOT_LABEL,
        revision=0,
        input_sha256=catalog.version,
        objects=objects,
        counts={
            "recordings": catalog.recordings.height,
            "recordings_with_shares": with_shares,
            "recordings_with_simulated_shares": simulated,
            "rights_holders": catalog.shares["rights_holder_id"].n_unique(),
        },
    )
    committed = commit_batch(context, batch, turn)
    commit = Commit(
        feed=CATALOG_FEED,
        stage=Stage.CATALOG,
        partition_key=CATALOG_PARTITION,
        revision=turn.revision,
        input_sha256=input_sha256,
        batch_ids=(committed.batch_id,),
        counts=dict(committed.counts) | {"problems": len(letters)},
        checks={},
    )
    registry.commit_partition(commit, turn)
    return Outcome(CATALOG_PARTITION, commit)


def catalog_in_force(context: PipelineContext) -> tuple[str, Batch]:
    """The version and batch of the catalog in force.

    Raises:
        StageBlockedError: if none is committed.
    """
    commit = context.registry.commit(CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION)
    if commit is None:
        raise StageWaitingError("no catalog is committed yet; materialise the catalog first")
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    return batch.input_sha256, batch


def load_catalog(context: PipelineContext, batch: Batch) -> Catalog:
    """The catalog in a committed snapshot."""
    recordings, shares, rights = (read_frame(context.lake, stored) for stored in batch.objects)
    # Snapshots from before recordings told their release lack its columns.
    missing = [name for name in RECORDING_SCHEMA if name not in recordings.columns]
    recordings = recordings.with_columns(pl.lit("").alias(name) for name in missing)
    return Catalog(recordings, shares, rights)


def matcher_in_force(context: PipelineContext) -> tuple[str, Matcher]:
    """The version of the catalog in force, and a matcher for it."""
    version, batch = catalog_in_force(context)
    return version, context.matcher(
        version,
        lambda: Matcher(
            load_catalog(context, batch), lambda known: _candidate_index(context, version, known)
        ),
    )


def _candidate_index(
    context: PipelineContext, version: str, recordings: pl.DataFrame
) -> CandidateIndex:
    """The index of a catalog version; that of a large one is kept for the next process."""
    if recordings.height < _INDEX_KEPT_FROM_RECORDINGS:
        return CandidateIndex.build(recordings)
    # Another anyascii may write a title otherwise.
    name = combined_sha256([version, MATCHER_VERSION, package_version("anyascii")])
    cache = FrameCache(context.home / "cache" / "candidates")
    if (kept := cache.get(name)) is not None:
        return CandidateIndex.from_frames(kept)
    index = CandidateIndex.build(recordings)
    with suppress(OSError):  # a full disk is no reason not to match
        cache.put(name, index.to_frames())
    return index


def shares_in_force(context: PipelineContext) -> tuple[str, pl.DataFrame]:
    """The version of the catalog in force, and its shares."""
    version, batch = catalog_in_force(context)
    shares = read_frame(context.lake, batch.objects[_TABLES.index("shares")])
    return version, shares.select(SHARE_SCHEMA.keys())


def catalog_revision(context: PipelineContext) -> int:
    """Which revision of the catalog is in force; -1 if none is."""
    commit = context.registry.commit(CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION)
    return -1 if commit is None else commit.revision


def shares_of_revision(context: PipelineContext, revision: int) -> pl.DataFrame:
    """The shares of a revision of the catalog; none where there was no such revision."""
    commit = context.registry.commit_of_revision(
        CATALOG_FEED, Stage.CATALOG, CATALOG_PARTITION, revision
    )
    if commit is None:
        return pl.DataFrame(schema=SHARE_SCHEMA)
    (batch,) = context.registry.batches_by_id(commit.batch_ids)
    shares = read_frame(context.lake, batch.objects[_TABLES.index("shares")])
    return shares.select(SHARE_SCHEMA.keys())
