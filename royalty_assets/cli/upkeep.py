"""Commands that keep a project's stores tidy."""

import json
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from royalty_assets.cli.options import Home, console, told_errors
from royalty_assets.settings import Settings, SettingsError, load_project

if TYPE_CHECKING:
    from royalty_assets.pipeline.leftovers import Leftover

_SHOWN_MAX = 40
_SPAN = re.compile(r"(\d+)(d|h)")


def gc_command(
    home: Home = Path("data"),
    older_than: Annotated[
        str, typer.Option(help="What is younger stays: days or hours, as 7d or 36h; 1d at least.")
    ] = "7d",
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; else it is shown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, all of it.")] = False,
) -> None:
    """Show what runs left that did not end, and with --delete remove it.

    That is: objects of the lake that no batch of the registry lists, in force or superseded;
    half-written objects; uploads in parts that were not ended; spool folders. Nothing else, and
    nothing younger than --older-than, so it can be done beside Dagster's workers.
    """
    from royalty_assets.orchestration.run_lock import only_run_of
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.leftovers import leftovers

    with told_errors():
        grace = _grace_of(older_than)
        project = load_project(home)
        with only_run_of(home, keeps_spool=True):
            session = PipelineSession(Settings(home=home), project)
            found = leftovers(session.context, grace)
            gone = [each.remove() for each in found] if delete else [False] * len(found)
            session.close()
    if as_json:
        rows = [
            {
                "kind": each.kind.value,
                "name": each.name,
                "bytes": each.size_bytes,
                "left_at": each.left_at.isoformat(timespec="seconds"),
                "removed": is_gone,
            }
            for each, is_gone in zip(found, gone, strict=True)
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        _show(found, gone, older_than, delete=delete)


def _show(found: "list[Leftover]", gone: list[bool], older_than: str, *, delete: bool) -> None:
    if not found:
        console.print(f"Nothing older than {older_than} was left by runs that did not end.")
        return
    table = Table(
        "what", Column("name", overflow="fold"), "left at", Column("bytes", justify="right")
    )
    for each in found[:_SHOWN_MAX]:
        at = f"{each.left_at:%Y-%m-%d %H:%M}"
        table.add_row(each.kind, escape(each.name), at, f"{each.size_bytes:,}")
    if len(found) > _SHOWN_MAX:
        table.add_row("…", f"{len(found) - _SHOWN_MAX:,} more; --json shows all", "", "")
    table.add_section()
    size_bytes = sum(each.size_bytes for each in found)
    table.add_row("total", f"{len(found):,}", "", f"{size_bytes:,}", style="bold")
    console.print(table)
    if not delete:
        console.print("Nothing was removed; --delete removes these.")
        return
    removed = [each for each, is_gone in zip(found, gone, strict=True) if is_gone]
    by_kind = Counter(str(each.kind) for each in removed)
    told = (
        ", ".join(f"{number:,} of kind {kind!r}" for kind, number in by_kind.items()) or "nothing"
    )
    freed = decimal(sum(each.size_bytes for each in removed))
    console.print(f"Removed: {told}; {freed}.", highlight=False, soft_wrap=True)
    if spared := len(found) - len(removed):
        console.print(f"{spared:,} were put again meanwhile and stay.")


def _grace_of(text: str) -> timedelta:
    """The span that somebody wrote.

    Raises:
        SettingsError: if it is none, or shorter than what is safe beside runs.
    """
    from royalty_assets.pipeline.leftovers import SHORTEST_GRACE

    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f"--older-than {text!r} is no span; write it as 7d or 36h")
    number = int(match[1])
    grace = timedelta(days=number) if match[2] == "d" else timedelta(hours=number)
    if grace < SHORTEST_GRACE:
        raise SettingsError(
            f"--older-than {text} could take what a run is about to commit; say 1d or more"
        )
    return grace


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("gc")(gc_command)
