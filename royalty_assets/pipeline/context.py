"""What every stage is given, and what it gives back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from royalty_assets.audit.leaves import manifest_text
from royalty_assets.audit.notes import SigningKey
from royalty_assets.domain.adjudication import Rule
from royalty_assets.domain.batches import Batch, Commit, LakeObject, Stage, combined_sha256
from royalty_assets.domain.failures import Failure
from royalty_assets.domain.feeds import Project
from royalty_assets.domain.matching import Matcher
from royalty_assets.domain.windows import Partition
from royalty_assets.logs import bound, log_of
from royalty_assets.sources.inbox import Look, LookKey
from royalty_assets.sources.templates import Template
from royalty_assets.storage.lake import Lake
from royalty_assets.storage.registry import Registry, Turn

_Cut = TypeVar("_Cut")
_log = log_of(__name__)

CATALOG_FEED = "catalog"
LEDGER_FEED = "ledger"
CATALOG_PARTITION = "current"


DATA_CHECKS = frozenset(
    {
        "every_payload_is_readable",
        "report_totals_agree",
        "report_cross_sums_agree",
        "report_name_agrees",
        "every_message_is_sent_once",
        "every_pool_is_configured",
        "remittance_agrees",
        "catalog_drift_is_within_limits",
        "usage_agrees_with_catalog",
        "rejects_are_within_limits",
        "every_pool_line_is_accepted",
        "every_expected_partition_is_in",
    }
)
"""Checks that follow from the data alone; the others are invariants, red only by disturbance."""


class StageBlockedError(Exception):
    """A stage that cannot go on, and what to do so that it can."""


class StageWaitingError(StageBlockedError):
    """A stage whose input is not there yet; nothing is wrong with it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class PipelineContext:
    """The project and its stores.

    Attributes:
        now: the clock; an argument so that tests can stop it.
        signer: signs batches and checkpoints; None where the project has no key.
        inbox_looks: what was seen in inbox files, so that each is looked into once.
        tokens: name of an environment variable → the bearer token in it.
        holds_rules: whether what people decide from now on waits, so that one run is of one mind.
    """

    project: Project
    home: Path
    lake: Lake
    registry: Registry
    templates: Sequence[Template]
    tokens: Mapping[str, str] = field(default_factory=dict)
    now: Callable[[], datetime] = _utc_now
    signer: SigningKey | None = None
    inbox_looks: dict[LookKey, Look] = field(default_factory=dict)
    holds_rules: bool = False
    _matchers: dict[str, Matcher] = field(default_factory=dict)
    _templates_version: tuple[Sequence[Template], str] = ((), "")
    _rules: tuple[int, list[Rule]] = (0, [])
    _cut_reports: dict[str, Any] = field(default_factory=dict)

    def spool(self) -> Path:
        """Where files are put that are done with when their stage is."""
        folder = self.home / "spool"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def templates_version(self) -> str:
        """A digest of all templates: others may read the same bytes otherwise."""
        known, version = self._templates_version
        if known is not self.templates:
            version = combined_sha256(t.model_dump_json() for t in self.templates)
            self._templates_version = (self.templates, version)
        return version

    def matcher(self, version: str, build: Callable[[], Matcher]) -> Matcher:
        """The matcher of a catalog version; one is kept, since an index is large."""
        if version not in self._matchers:
            self._matchers.clear()
            self._matchers[version] = build()
        return self._matchers[version]

    def rules(self, number: int, read: Callable[[], list[Rule]]) -> list[Rule]:
        """The rules after a decision's number, read once for all partitions."""
        if self._rules[0] != number and not self.holds_rules:
            self._rules = (number, read())
        return self._rules[1]

    def cut_report(self, key: str, cut: Callable[[], _Cut]) -> _Cut:
        """A report as cut into its partitions; the last one is kept, for the next partition."""
        if key not in self._cut_reports:
            self._cut_reports.clear()
            self._cut_reports[key] = cut()
        return cast(_Cut, self._cut_reports[key])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage did with one partition.

    Attributes:
        commit: in force now; None where the stage could not commit.
        changed: False if the commit in force was already made from this input.
        failure: why there is no commit; None where there is one.
    """

    partition_key: str
    commit: Commit | None
    changed: bool = True
    failure: Failure | None = None

    @classmethod
    def failed(cls, partition_key: str, failure: Failure) -> "Outcome":
        """Of a partition that could not be committed."""
        return cls(partition_key, None, failure=failure)

    @property
    def problem(self) -> str | None:
        """Why there is no commit, in words."""
        return None if self.failure is None else self.failure.problem


def standing(
    context: PipelineContext, feed: str, stage: Stage, partition_key: str, input_sha256: str
) -> Commit | None:
    """The commit in force if it was made from this input; None if there is work to do."""
    commit = context.registry.commit(feed, stage, partition_key)
    if commit is None or commit.input_sha256 != input_sha256 or not _is_settled(commit):
        return None
    return commit


def begin(
    context: PipelineContext,
    feed: str,
    stage: Stage,
    partition_key: str,
    look: Callable[[], Commit | None],
) -> Commit | Turn:
    """What stands, if there is nothing to do; otherwise the turn to do it.

    Args:
        context: the project.
        feed: and stage and partition key, of which the next revision would be made.
        stage: see above.
        partition_key: see above.
        look: gives the commit in force if there is nothing to do. It is asked again once the turn
            is taken: another run may have done the work meanwhile, or closed the month.
    """
    if (commit := look()) is not None:
        return commit
    turn = context.registry.take_turn(feed, stage, partition_key)
    _log.debug("started: revision %d", turn.revision)
    return look() or turn


def _is_settled(commit: Commit) -> bool:
    """Whether making it again from the same input would come out the same.

    It would not where an invariant broke: that is a disturbance (a disk, another run), not data.
    """
    red = {name for name, findings in commit.checks.items() if findings}
    return red <= DATA_CHECKS


def green_input(
    context: PipelineContext, feed: str, stage: Stage, partition_key: str
) -> tuple[Commit, list[Batch]]:
    """The committed input of the next stage.

    Raises:
        StageBlockedError: if it is not committed, or a check of it is red.
    """
    commit = context.registry.commit(feed, stage, partition_key)
    if commit is None:
        raise StageWaitingError(
            f"{feed}/{stage} is not committed for {partition_key}; materialise that first"
        )
    if not commit.is_green:
        raise StageBlockedError(
            f"{feed}/{stage} is red for {partition_key}: {first_finding(commit)}"
        )
    return commit, context.registry.batches_by_id(commit.batch_ids)


def first_finding(commit: Commit) -> str:
    """The first thing that breaks a check of this commit, with the check's name."""
    name, findings = next((item for item in commit.checks.items() if item[1]), ("", [""]))
    return f"{name}: {findings[0]}"


def commit_batch(
    context: PipelineContext,
    batch: Batch,
    turn: Turn,
    *,
    decisions: Iterable[Mapping[str, Any]] = (),
    exceptions: Callable[[Batch], Iterable[Mapping[str, Any]]] = lambda _: (),
    subjects: Iterable[str] = (),
) -> Batch:
    """Commit a window's batch as its next revision, or keep the one in force if it is the same.

    Args:
        context: the project.
        batch: with any revision; the one it gets follows from what is in force.
        turn: at its partition.
        decisions: made on its input.
        exceptions: made from the batch as it is committed.
        subjects: what in it a person's decision would settle, or has settled.
    """
    in_force = context.registry.batches(batch.feed, batch.stage, batch.partition_key)
    before = in_force.get(batch.window_label)
    if before is not None and before.content_sha256 == batch.content_sha256:
        return before
    next_one = replace(batch, revision=0 if before is None else before.revision + 1)
    with bound(batch=next_one.batch_id):
        context.registry.commit_batch(
            next_one,
            turn,
            decisions=decisions,
            exceptions=exceptions(next_one),
            subjects=subjects,
            signature=signature_of(context, next_one),
        )
        _log.debug("batch %s is committed", next_one.batch_id)
    return next_one


def commit_month_batch(
    context: PipelineContext,
    month: Partition,
    turn: Turn,
    input_sha256: str,
    objects: Mapping[str, LakeObject],
) -> Batch:
    """Commit the tables of a month, by name; see ``commit_batch``."""
    return commit_batch(
        context,
        Batch(
            feed=LEDGER_FEED,
            stage=turn.stage,
            partition_key=month.key,
            window_start=month.window.start,
            window_label=month.window.label,
            revision=0,
            input_sha256=input_sha256,
            objects=tuple(objects.values()),
            counts={name: stored.rows for name, stored in objects.items()},
        ),
        turn,
    )


def signature_of(context: PipelineContext, batch: Batch) -> str:
    """The project's signature of a batch's manifest; empty where it has no key."""
    if context.signer is None:
        return ""
    return context.signer.sign(manifest_text(batch.batch_id, batch.sha256).encode()).text
