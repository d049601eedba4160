"""``status``: how a project stands, and what somebody has to do."""

import json
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from royalty_assets.cli.options import Home, console, told_errors
from royalty_assets.settings import Settings, load_project

if TYPE_CHECKING:
    from royalty_assets.domain.batches import Stage
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.status import Unfinished

_STAGES = ("raw", "validated", "matched", "pool", "ledger", "payouts", "statements")


def status_command(
    home: Home = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Say how the project stands, and who does what about what is not finished.

    Per feed the last green partition of each stage; then what failed, is red, missing or waits.
    Nothing is run and no service is asked. The exit code is 1 if something needs a person.
    """
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.status import last_green

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        newest = last_green(session.context)
        found = _unfinished(session, session.settings.dagster_home)
        session.close()
    if as_json:
        typer.echo(json.dumps(_as_json(newest, found), ensure_ascii=False, indent=1))
    else:
        _show(newest, found)
    raise typer.Exit(1 if any(each.needs_person for each in found) else 0)


def _unfinished(session: "PipelineSession", dagster_home: Path) -> "list[Unfinished]":
    import dagster as dg

    from royalty_assets.orchestration.unfinished import unfinished_work

    with ExitStack() as open_until_told:
        instance = None
        if (dagster_home / "dagster.yaml").is_file():
            open_until_told.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            opened = dg.DagsterInstance.from_config(str(dagster_home))
            instance = open_until_told.enter_context(opened)
        return unfinished_work(session.context, instance)


def _as_json(
    newest: "list[tuple[str, Stage, str]]", found: "list[Unfinished]"
) -> dict[str, object]:
    green: dict[str, dict[str, str | None]] = {}
    for feed, stage, key in newest:
        green.setdefault(feed, {})[str(stage)] = key or None
    return {
        "last_green": green,
        "unfinished": [
            {
                "state": str(each.state),
                "feed": each.feed,
                "stage": each.stage,
                "partition": each.partition_key,
                "since": None if each.since is None else each.since.isoformat(),
                "why": each.why,
                "who": str(each.actor),
                "to_do": each.to_do,
                "needs_person": each.needs_person,
            }
            for each in found
        ],
    }


def _show(newest: "list[tuple[str, Stage, str]]", found: "list[Unfinished]") -> None:
    from royalty_assets.orchestration.unfinished import unfinished_rows

    reached: dict[tuple[str, str], list[str]] = {}
    for feed, stage, key in newest:
        reached.setdefault((feed, key or "none yet"), []).append(str(stage))
    table = Table(title="Newest green partition of each stage", title_justify="left")
    for name in ("", "partition", "stages"):
        table.add_column(name)
    before = ""
    for (feed, key), stages in reached.items():
        told = ", ".join(sorted(stages, key=_STAGES.index))
        table.add_row("" if feed == before else escape(feed), key, told)
        before = feed
    console.print(table)
    for what, where, since, why, who, to_do in unfinished_rows(found):
        told = f"  • {what}: {where}" + (f", since {since} UTC" if since else "")
        lines = [told, f"      {why}", f"      {who}: {to_do}"]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    waiting = sum(each.needs_person for each in found)
    if waiting:
        things = "thing needs" if waiting == 1 else "things need"
        console.print(f"\n{waiting} {things} a person", style="bold red", highlight=False)
    else:
        console.print("\nnothing needs a person", style="bold green")
