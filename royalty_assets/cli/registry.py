"""The `registry` commands: where the schema stands, and bringing it to another revision.

For who owns the database. The other commands bring a SQLite registry up to date by themselves.
"""

from pathlib import Path
from typing import Annotated

import typer

from royalty_assets.cli.options import Home, complaints, console, told_errors
from royalty_assets.settings import Settings, SettingsError, load_project

registry_app = typer.Typer(
    help="The registry's database: its schema, and bringing it up to date.", no_args_is_help=True
)


@registry_app.command()
def status(home: Home = Path("data")) -> None:
    """Say which database holds the registry, and whether its schema is this version's.

    The exit code is 1 if it is not: then `royalty-assets registry migrate` is to be run, by the
    role that owns the tables. Nothing is changed.
    """
    from royalty_assets.storage.database import connect, parsed_url
    from royalty_assets.storage.schema import schema_status

    with told_errors():
        load_project(home)
        url = parsed_url(Settings(home=home).registry)
        engine = connect(url)
        found = schema_status(engine)
        engine.dispose()
    shown = url.render_as_string(hide_password=True)
    console.print(f"registry  {shown}", markup=False, highlight=False, soft_wrap=True)
    at = found.revision or "none yet"
    console.print(f"schema    {at}; this version works with {found.newest}", highlight=False)
    for revision, brings in found.to_come:
        told = f"to come   {revision}  {brings}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if found.is_current else 1)


@registry_app.command()
def migrate(
    home: Home = Path("data"),
    to: Annotated[
        str, typer.Option(help="A revision, as `status` tells them; `base` is none.")
    ] = "head",
    drop_data: Annotated[
        bool,
        typer.Option(
            "--drop-data", help="Go back to an older revision, and lose what that cannot hold."
        ),
    ] = False,
) -> None:
    """Bring the registry's schema up to date, as the role that owns it.

    Going back is for returning to an older version of the program; what would be lost is told
    first, and nothing is done without `--drop-data`. Make a backup before either.
    """
    from royalty_assets.orchestration.run_lock import only_run_of
    from royalty_assets.storage.database import connect, parsed_url
    from royalty_assets.storage.schema import downgrade, lost_by_downgrade, schema_status
    from royalty_assets.storage.schema import migrate as bring_up

    with told_errors():
        load_project(home)
        engine = connect(parsed_url(Settings(home=home).registry))
        with only_run_of(home):
            steps = lost_by_downgrade(engine, to)
            for revision, lost in steps:
                complaints.print(f"without {revision} is lost: {lost}", markup=False)
            if steps and not drop_data:
                raise SettingsError("nothing was done; say --drop-data to go back all the same")
            before = schema_status(engine).revision
            if steps:
                downgrade(engine, to)
            else:
                bring_up(engine, to)
            after = schema_status(engine).revision
        engine.dispose()
    told = f"it was {before or 'none'}" if before != after else "nothing was to be done"
    console.print(f"schema    {after or 'none'}; {told}", highlight=False)
