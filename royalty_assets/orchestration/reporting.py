"""What Dagster is told of each partition: materialisation, metadata and checks.

In a run over a range, Dagster itself would record everything at the step's end, so a crash after
700 of 744 partitions would show none. Here each partition is logged as it commits, its checks
with it. In a run of one partition the ordinary results are yielded, so that assets downstream in
the same run go on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

# There is no public name for what ties a check's result to a materialisation of a partition.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as CheckTarget,
)

from royalty_assets.domain.batches import Commit, Stage
from royalty_assets.domain.failures import Actor, Failure, Remedy
from royalty_assets.domain.feeds import Feed
from royalty_assets.orchestration.metadata import commit_metadata, plain_markdown
from royalty_assets.orchestration.session import PipelineSession
from royalty_assets.pipeline.checks import checks_of
from royalty_assets.pipeline.context import CATALOG_FEED, LEDGER_FEED, Outcome
from royalty_assets.pipeline.contracts import CONTRACTS_FEED

FINDINGS_SHOWN_MAX = 20
FAILURES_METADATA = "failures"
"""The name under which a failed step tells what became of each partition."""
_OWNERS = {Stage.CATALOG: CATALOG_FEED, Stage.CONTRACTS: CONTRACTS_FEED}
"""The registry's names of what belongs to no feed; the rest is the ledger's."""
Result = dg.MaterializeResult[Any] | dg.AssetCheckResult


def report_outcomes(
    context: dg.AssetExecutionContext,
    session: PipelineSession,
    key: dg.AssetKey,
    feed: Feed | None,
    stage: Stage,
    outcomes: Iterable[Outcome],
) -> Iterator[Result]:
    """Tell Dagster of each outcome as it comes, and fail at the end if any could not commit.

    Raises:
        dagster.Failure: naming each partition that has no commit, why, and who acts. Dagster does
            not try the step again: what may pass has had its second try (``pipeline.attempts``).
    """
    name = feed.name if feed is not None else str(stage)
    owner = feed.name if feed is not None else _OWNERS.get(stage, LEDGER_FEED)
    is_range = context.has_partition_key is False and context.has_partition_key_range
    done: list[Outcome] = []
    for outcome in outcomes:
        session.on_outcome(name, stage, outcome)
        done.append(outcome)
        if outcome.commit is None:
            continue
        if is_range:
            _log_partition(context, session, key, feed, stage, outcome.commit)
        else:
            yield dg.MaterializeResult(
                asset_key=key, metadata=commit_metadata(session.context, outcome.commit)
            )
    failures = {o.partition_key: o.failure for o in done if o.failure is not None}
    if failures:
        raise dg.Failure(
            description="\n".join(f"{key}: {each.problem}" for key, each in failures.items()),
            metadata={FAILURES_METADATA: dg.MetadataValue.json(_as_json(owner, stage, failures))},
            allow_retries=False,
        )
    commits = [outcome.commit for outcome in done if outcome.commit is not None]
    for check in checks_of(feed, stage):
        findings, severity = _findings(commits, check, name_partitions=is_range)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=check,
            passed=not findings,
            severity=severity,
            metadata=_told(findings),
        )


def _as_json(name: str, stage: Stage, failures: Mapping[str, Failure]) -> dict[str, Any]:
    told = {
        key: {"problem": each.problem, "remedy": str(each.remedy), "actor": str(each.actor)}
        for key, each in failures.items()
    }
    return {"feed": name, "stage": str(stage), "partitions": told}


def failures_of_run(
    instance: dg.DagsterInstance, run_id: str
) -> dict[tuple[str, str, str], Failure]:
    """(feed, stage, partition key) → failure, as ``report_outcomes`` told them of a run."""
    found: dict[tuple[str, str, str], Failure] = {}
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        told = None if event is None else event.step_failure_data.user_failure_data
        value = None if told is None else told.metadata.get(FAILURES_METADATA)
        if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict):
            found |= {
                (value.data["feed"], value.data["stage"], key): Failure(
                    each["problem"], Remedy(each["remedy"]), Actor(each["actor"])
                )
                for key, each in value.data["partitions"].items()
            }
    return found


def _findings(
    commits: Sequence[Commit], check: str, *, name_partitions: bool
) -> tuple[list[str], dg.AssetCheckSeverity]:
    """What breaks a check, and whether that blocks or warns."""
    told: list[str] = []
    severity = dg.AssetCheckSeverity.ERROR
    for commit in commits:
        blocking = commit.checks.get(check, [])
        found = blocking or commit.warnings.get(check, [])
        if found and not blocking:
            severity = dg.AssetCheckSeverity.WARN
        told += [f"{commit.partition_key}: {f}" for f in found] if name_partitions else found
    if any(commit.checks.get(check) for commit in commits):
        severity = dg.AssetCheckSeverity.ERROR
    return told, severity


def _log_partition(
    context: dg.AssetExecutionContext,
    session: PipelineSession,
    key: dg.AssetKey,
    feed: Feed | None,
    stage: Stage,
    commit: Commit,
) -> None:
    partition = commit.partition_key
    metadata = commit_metadata(session.context, commit)
    context.log_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))
    target = _newest_materialisation(context.instance, key, partition)
    for check in checks_of(feed, stage):
        findings, severity = _findings([commit], check, name_partitions=False)
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=check,
                passed=not findings,
                partition=partition,
                blocking=True,
                severity=severity,
                metadata=_told(findings),
                target_materialization_data=target,
            )
        )


def _newest_materialisation(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str
) -> CheckTarget | None:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
    ).records
    if not records:
        return None
    newest = records[0]
    return CheckTarget(
        storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
    )


def _told(findings: list[str]) -> Mapping[str, Any]:
    if not findings:
        return {}
    shown = "\n".join(f"- {plain_markdown(finding)}" for finding in findings[:FINDINGS_SHOWN_MAX])
    return {
        "findings": dg.MetadataValue.md(shown),
        "number_of_findings": dg.MetadataValue.int(len(findings)),
    }
