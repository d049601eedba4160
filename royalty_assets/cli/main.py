"""The command line. Each command opens a project, calls the library and shows what came of it.

What belongs here: arguments, environment for child processes, exit codes. What is shown is in
``console``; what happens is in the packages below.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer
from rich.markup import escape
from rich.table import Table

from royalty_assets import __version__
from royalty_assets.cli import periods, registry, upkeep
from royalty_assets.cli.listening import LOOPBACK, BehindProxy, Host, where_to_listen
from royalty_assets.cli.options import (
    Home,
    Month,
    chosen_months,
    complaints,
    console,
    month_of,
    told_errors,
)
from royalty_assets.cli.status import status_command
from royalty_assets.demo import (
    DEMO_MARK,
    DEMO_SCENARIO,
    SIMULATOR_URL_VARIABLE,
    read_scenario,
    simulated_services,
    write_demo_project,
)
from royalty_assets.domain.money import format_atoms, minor_unit_decimals
from royalty_assets.domain.money_columns import AMOUNT_DTYPE, series_to_atoms
from royalty_assets.domain.spreadsheet_cells import as_text_cell
from royalty_assets.settings import (
    Settings,
    SettingsError,
    configure_logs_as_set,
    load_project,
)
from royalty_assets.simulator.scenario import Scenario

if TYPE_CHECKING:
    from royalty_assets.domain.allocation import AllocationModel
    from royalty_assets.sources.templates import Template

app = typer.Typer(
    name="royalty-assets",
    help="From what music services report to what rights holders are paid.\n\n"
    "Start with `royalty-assets demo`, or with `royalty-assets init DIR` for files of your own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

_DEFAULTS = DEMO_SCENARIO
NewHome = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")]
Events = Annotated[int, typer.Option(min=1, help="Plays to simulate, over all services.")]
Hours = Annotated[int, typer.Option(min=1, max=24 * 28, help="Hours to simulate.")]
Recordings = Annotated[int, typer.Option(min=10, help="Recordings in the simulated catalog.")]
Seed = Annotated[int, typer.Option(help="The same seed is the same world.")]


@app.command()
def demo(
    home: Home = Path("data"),
    events: Events = _DEFAULTS.events,
    hours: Hours = _DEFAULTS.hours,
    recordings: Recordings = _DEFAULTS.recordings,
    seed: Seed = _DEFAULTS.seed,
) -> None:
    """Simulate three services for a day and pay the month out.

    Ends with the funnel from rows received to money paid, and whether all of it is accounted for.
    Run it again and nothing changes; kill it and run it again, and the result is the same.
    """
    from royalty_assets.orchestration.run_lock import only_run_of

    scenario = Scenario(seed=seed, events=events, recordings=recordings, hours=hours)
    with told_errors(), only_run_of(home):
        console.print(
            f"[bold]royalty_assets[/] {__version__}: {events:,} plays by three simulated services "
            f"over {hours} hours, {recordings:,} recordings; project in {home}",
            soft_wrap=True,
        )
        write_demo_project(home, scenario)
        with simulated_services(scenario) as url:
            os.environ[SIMULATOR_URL_VARIABLE] = url
            ok = _run_and_show(home, "From rows received to units matched")
            ok = ok and periods.close_and_check(home)
    console.print(
        "\n`make ui` shows the same in Dagster, with the lineage of every number; `make desk` asks "
        "about what has no recording.",
        soft_wrap=True,
    )
    raise typer.Exit(0 if ok else 1)


@app.command()
def run(home: Home = Path("data")) -> None:
    """Run a project of your own: everything that its feeds have delivered.

    The same assets as in the Dagster UI, without it. What is committed and unchanged is skipped.
    """
    from royalty_assets.orchestration.run_lock import only_run_of

    with told_errors():
        load_project(home)
        with only_run_of(home), _services_of(home):
            ok = _run_and_show(home, "From rows received to units matched")
    raise typer.Exit(0 if ok else 1)


def _run_and_show(home: Path, title: str) -> bool:
    import dagster as dg

    from royalty_assets.console import StageProgress, show_report
    from royalty_assets.definitions import build_defs
    from royalty_assets.orchestration.dagster_home import prepare_dagster_home
    from royalty_assets.orchestration.runner import (
        fail_orphaned_runs,
        plan_run,
        run_project,
    )
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.funnel import make_funnel

    settings = Settings(home=home)
    project = load_project(home)
    session = PipelineSession(settings, project)
    session.ensure_signer()
    os.environ |= prepare_dagster_home(settings)
    with warnings.catch_warnings(), dg.DagsterInstance.get() as instance:
        warnings.simplefilter("ignore")
        fail_orphaned_runs(instance, everyone=False)
        definitions = build_defs(settings, project, session=session)
        plans = plan_run(session)
        with StageProgress(console, plans) as progress:
            session.on_outcome = progress.listen
            report = run_project(definitions, session, instance, plans)
    funnel = make_funnel(session.context)
    show_report(console, report, funnel, title)
    session.close()
    return funnel.is_accounted_for and not report.failed


@app.command()
def init(home: NewHome) -> None:
    """Start a project of your own in a new or empty folder.

    Then put catalog and report files into its catalog and inbox folders, and `run` it.
    """
    with told_errors():
        home.mkdir(parents=True, exist_ok=True)
        if (home / "feeds.yaml").exists():
            raise SettingsError(f"{home} holds a project already")
        with as_file(files("royalty_assets").joinpath("project_template")) as template:
            shutil.copyfile(template / "feeds.yaml", home / "feeds.yaml")
            (home / "templates").mkdir(exist_ok=True)
            (home / "remittances").mkdir(exist_ok=True)
            (home / "rates").mkdir(exist_ok=True)
            for folder in ("catalog", "contracts", "inbox"):
                (home / folder).mkdir(exist_ok=True)
                shutil.copyfile(template / f"{folder}_README.md", home / folder / "README.md")
            example = home / "contracts" / "example.yaml.txt"
            shutil.copyfile(template / "contracts_example.yaml", example)
    console.print(
        f"A project is in {home}:\n"
        f"  feeds.yaml  what is delivered, by whom, and where\n"
        f"  catalog/    put your recordings here (isrc, title, artist), and shares and rights\n"
        f"  contracts/  put contracts here; example.yaml.txt teaches how, until then shares count\n"
        f"  inbox/      put report files here\n"
        f"Then: royalty-assets run {home}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command("ledger-hash")
def ledger_hash_command(home: Home = Path("data"), month: Month = None) -> None:
    """Print one SHA-256 over the canonical ledger and payouts.

    Equal money means equal hash, whatever the order, retries or machine.
    """
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.month import ledger_hash
    from royalty_assets.pipeline.periods import committed_months

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        months = chosen_months(committed_months(session.context), month)
        typer.echo(ledger_hash(session.context, months))
        session.close()


@app.command()
def payouts(home: Home = Path("data"), month: Month = None) -> None:
    """Print what each rights holder is paid, as CSV: one row per month, payee and currency.

    A month that a red check blocks is named instead, and the exit code is 1.

    Redirect it into a file: `royalty-assets payouts my-label --month 2025-03 > payouts.csv`.
    """
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.month import blocked_because, month_frames
    from royalty_assets.pipeline.periods import committed_months

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        months = chosen_months(committed_months(session.context), month)
        blocked = {
            each.key: why for each in months if (why := blocked_because(session.context, each))
        }
        months = [each for each in months if each.key not in blocked]
        for number, each in enumerate(months):
            frame = month_frames(session.context, each)[1]
            period = pl.lit(f"{each.window.start:%Y-%m}").alias("month")
            safe = pl.col(pl.String).map_elements(as_text_cell, return_dtype=pl.String)
            frame = _as_money(frame.with_columns(safe))
            text = frame.select(period, pl.all()).write_csv(include_header=number == 0)
            typer.echo(text, nl=False)
        session.close()
    for key, why in blocked.items():
        complaints.print(f"{key} is not to be paid: {why}", markup=False, soft_wrap=True)
    if blocked:
        raise typer.Exit(1)


def _as_money(frame: pl.DataFrame) -> pl.DataFrame:
    """Amounts with the decimals that their currency has, more only where there are more."""
    columns = []
    for name in (name for name, dtype in frame.schema.items() if dtype == AMOUNT_DTYPE):
        texts = []
        for atoms, currency in zip(series_to_atoms(frame[name]), frame["currency"], strict=True):
            units, _, fraction = format_atoms(atoms).partition(".")
            fraction = fraction.ljust(minor_unit_decimals(currency), "0")
            texts.append(f"{units}.{fraction}" if fraction else units)
        columns.append(pl.Series(name, texts, dtype=pl.String))
    return frame.with_columns(columns)


@app.command("what-if")
def what_if_command(
    model: Annotated[
        str,
        typer.Option(
            help="pro-rata, user-centric, shapley, stream-threshold or artist-centric.",
        ),
    ],
    month: Annotated[str, typer.Option(help="The accounting period, as 2025-03.")],
    home: Home = Path("data"),
    feed: Annotated[str | None, typer.Option(help="Only this feed's pools.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of the model, as units_min=500; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Gains and losses to show of each kind.")] = 5,
    chart: Annotated[
        Path | None, typer.Option(help="Also draw gains and losses by recording, as FILE.svg.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it, exact, for programs.")
    ] = False,
) -> None:
    """Say who would gain and who would lose if a month's pools were shared by another model.

    The same usage and the same money; nothing is committed. Works without any setting: plays by
    listener are counted from what the services sent.

    `royalty-assets what-if --model stream-threshold --set units_min=500 --month 2025-03 my-label`
    """
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.what_if import what_if
    from royalty_assets.what_if_report import show_what_if, what_if_json, what_if_svg

    with told_errors():
        chosen = _model(model, parameters or [])
        if chart is not None and chart.suffix != ".svg":
            raise SettingsError(f"{chart}: the drawing is SVG; give it a name that ends in .svg")
        session = PipelineSession(Settings(home=home), load_project(home))
        found = what_if(session.context, month_of(month), chosen, feed)
        session.close()
        if chart is not None:
            title = f"{found.month[:7]}, by {found.model.model}: gains and losses by recording"
            chart.write_text(what_if_svg(title, found.recordings, limit), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(what_if_json(found), indent=1, ensure_ascii=False))
    else:
        show_what_if(console, found, limit)


def _model(name: str, parameters: list[str]) -> "AllocationModel":
    from pydantic import TypeAdapter, ValidationError

    from royalty_assets.domain.allocation import Allocation

    written: dict[str, object] = {"model": name.replace("-", "_")}
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if not equals:
            raise SettingsError(f"--set {parameter}: write it as name=value, as units_min=500")
        written[key] = None if value == "none" else value
    try:
        model: AllocationModel = TypeAdapter(Allocation).validate_python(written)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'][1:])) or 'model'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise SettingsError(f"{name} cannot be used: {problems}") from None
    return model


periods.add_to(app)
app.add_typer(registry.registry_app, name="registry")
upkeep.add_to(app)
app.command("status")(status_command)


@app.command("dead-letters")
def dead_letters(
    home: Home = Path("data"),
    feed: Annotated[str | None, typer.Option(help="Only this feed's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 20,
) -> None:
    """Show what was refused: how often by which rule, and rows with file, value and reason."""
    from royalty_assets.orchestration.session import PipelineSession

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        registry = session.context.registry
        rules = Table("feed", "stage", "rule", "rows", title="By rule", title_justify="left")
        rules.columns[2].overflow = "fold"
        for name, stage, rule, number in registry.dead_letter_rules():
            if feed in {None, name}:
                rules.add_row(name, stage, rule, f"{number:,}")
        rows = Table("where", "row", "rule", "value", "reason", title="Rows", title_justify="left")
        rows.columns[2].overflow = "fold"
        for letter in registry.dead_letters(feed, limit=limit):
            place = f"{letter['feed']} {letter['partition_key']} {letter['source'][-60:]}"
            cells = [
                place,
                str(letter["row_number"]),
                letter["rule"],
                letter["value"],
                letter["reason"],
            ]
            rows.add_row(*map(escape, cells))
        console.print(rules, rows)
        session.close()


@app.command()
def explain(
    line: Annotated[
        str,
        typer.Argument(help="`report.csv:3`, the SHA-256 of a source and `:3`, or an event id."),
    ],
    home: Home = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what became of one reported line, and why.

    What it said, which recording it is and how that was decided, by which rule, on which batch
    and catalog. A line is named as it is in statements and dead letters, by its file and row.
    """
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.explain import explain as explained

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        found = explained(session.context, line)
        session.close()
        if not found:
            raise SettingsError(
                f"nothing in force is known as {line!r}; write it as report.csv:3, where 3 is the "
                "row in the file, or give an event id"
            )
    if as_json:
        told = [
            {"line": dict(one.line), "decision": one.decision, "words": one.sentences}
            for one in found
        ]
        typer.echo(json.dumps(told, default=str, ensure_ascii=False, indent=1))
        return
    for one in found:
        first, *rest = one.sentences
        console.print(
            first, style="bold", markup=False, emoji=False, highlight=False, soft_wrap=True
        )
        for sentence in rest:
            console.print(
                f"  {sentence}", markup=False, emoji=False, highlight=False, soft_wrap=True
            )


@app.command()
def calendar(home: Home = Path("data")) -> None:
    """Show what each feed owes by when, and which deliveries are late, missing or re-sent.

    A feed promises something by `calendar` in feeds.yaml.
    """
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.calendar import (
        CALENDAR_COLUMNS,
        PERIODS_SHOWN,
        calendar_rows,
        delivery_calendar,
    )

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        rows = calendar_rows(delivery_calendar(session.context))
        shown = [n for n in range(len(CALENDAR_COLUMNS)) if n != 2 or any(row[2] for row in rows)]
        caption = f"The newest {PERIODS_SHOWN} periods of each feed."
        table = Table(caption=caption, caption_justify="left")
        for column in (CALENDAR_COLUMNS[n] for n in shown):
            # Dates are never cut off; a long state or name goes on in the next line.
            is_date = column in {"period", "due", "received"}
            table.add_column(column, no_wrap=is_date, overflow="fold")
        for row in rows:
            style = "red" if row[4] == "missing" else "yellow" if row[4] == "late" else None
            table.add_row(*(escape(row[n]) for n in shown), style=style)
        console.print(table if rows else "No feed has a calendar; see `calendar` in feeds.yaml.")
        session.close()


@app.command()
def verify(
    home: Home = Path("data"),
    month: Month = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Hashes, log and signatures; make nothing again.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(help="A key that has to be the project's, as somebody outside wrote it down."),
    ] = None,
) -> None:
    """Check that nothing has changed since it was committed, and that all follows from raw bytes.

    Every stored object against its SHA-256, every row of the registry against the log, the log
    against its signed checkpoints, and every derived object against what comes of the raw bytes
    when it is made again. Each difference is one line; the exit code is 1 if there is any.
    """
    from royalty_assets.console import VerifyProgress, show_verification
    from royalty_assets.orchestration.run_lock import only_run_of
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.rederive import rederive
    from royalty_assets.pipeline.verify import verify_quickly

    with told_errors():
        period = None if month is None else month_of(month).key[:7]
        session = PipelineSession(Settings(home=home), load_project(home))
        # Nobody writes while it is looked at, and what it works with is not tidied away.
        with only_run_of(home), VerifyProgress(console) as progress:
            context = session.context
            found = verify_quickly(context, period, key, progress.told)
            if not quick:
                found += rederive(context, period, progress.told)
        session.close()
    raise typer.Exit(0 if show_verification(console, found) else 1)


keys_app = typer.Typer(help="Keys: what batches and the log are signed with.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")


@keys_app.command("show")
def keys_show(home: Home = Path("data")) -> None:
    """Print the project's public keys, oldest first; whoever checks its proofs needs them.

    Give the first one to somebody outside: `verify --key` then finds a project that was made anew
    as a whole.
    """
    from royalty_assets.audit.keys import RING_FOLDER, read_ring

    with told_errors():
        entries = read_ring(home / RING_FOLDER).entries
        if not entries:
            raise SettingsError(
                f"{home} has no key yet; `royalty-assets keys new {home}` makes one"
            )
        for entry in entries:
            complaints.print(f"from leaf {entry.from_size}:", highlight=False)
            typer.echo(entry.key.text)


@keys_app.command("new")
def keys_new(
    home: Home = Path("data"),
    name: Annotated[
        str | None, typer.Option(help="Best an address of yours, as label.example/royalties.")
    ] = None,
) -> None:
    """Make the project's first signing key; `demo` and `run` do so too, if there is none.

    It rests in keys/signing.key, which nobody else may read, unless ROYALTY_ASSETS_SIGNING_KEY
    holds one. Keep a copy in a safe place: there is no other.
    """
    from royalty_assets.audit.keys import KEY_FILE, ensure_signing_key, signing_key_of

    with told_errors():
        settings = Settings(home=home)
        load_project(home)
        given = settings.signing_key.get_secret_value()
        if not given and signing_key_of(home) is not None:
            raise SettingsError(
                f"{home / KEY_FILE} holds a key; `royalty-assets keys rotate` replaces it"
            )
        typer.echo(ensure_signing_key(home.resolve(), given, name).verifier.text)


@keys_app.command("rotate")
def keys_rotate(
    home: Home = Path("data"),
    name: Annotated[str | None, typer.Option(help="Of the new key; else the old one's.")] = None,
) -> None:
    """Let a new key take over; the old one introduces it, and stays good for what it signed.

    The log is signed by both, so that the change itself is on record. Programs that have the
    project open have to be started again.
    """
    from royalty_assets.audit.keys import rotate_signing_key
    from royalty_assets.audit.notes import new_signing_key
    from royalty_assets.orchestration.run_lock import only_run_of
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.checkpoints import sign_checkpoint

    with told_errors(), only_run_of(home):
        settings = Settings(home=home)
        if settings.signing_key.get_secret_value():
            raise SettingsError(
                "the key comes from ROYALTY_ASSETS_SIGNING_KEY, which this cannot change; unset "
                "it, put the key into keys/signing.key (chmod 600), rotate, and set it anew"
            )
        session = PipelineSession(settings, load_project(home))
        context = session.context
        old = context.signer
        if old is None:
            raise SettingsError(f"{home} has no key; `royalty-assets keys new {home}` makes one")
        sign_checkpoint(context)
        new = new_signing_key(name or old.name)
        rotate_signing_key(home.resolve(), old, new, context.registry.log_size())
        context.signer = new
        sign_checkpoint(context)
        session.close()
        typer.echo(new.verifier.text)


contracts_app = typer.Typer(help="Contracts: look at them before a month is paid.")
app.add_typer(contracts_app, name="contracts")


@contracts_app.callback()
def _contracts() -> None:
    """Keep ``lint`` a command of its own, as long as there is no other."""


@contracts_app.command("lint")
def contracts_lint(
    home: Home = Path("data"),
    month: Month = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what in the contracts deserves a look, with the usage money that it touches.

    Looks at contracts/ and rates/ as they are now, at the catalog, and at the ledgers of all
    committed months, or of one. The exit code is 1 if something holds money or stops a month.
    """
    from royalty_assets.console import show_findings
    from royalty_assets.domain.contract_lint import Severity
    from royalty_assets.orchestration.session import PipelineSession
    from royalty_assets.pipeline.contract_lint import contract_findings

    with told_errors():
        session = PipelineSession(Settings(home=home), load_project(home))
        chosen = None if month is None else month_of(month)
        period, findings = contract_findings(session.context, chosen)
        session.close()
    if as_json:
        told = [
            {
                "severity": str(finding.severity),
                "rule": finding.rule,
                "subject": finding.subject,
                "told": finding.told,
                "to_do": finding.to_do,
                "money": {c: format_atoms(atoms) for c, atoms in finding.money.items()},
            }
            for finding in findings
        ]
        answer = {"month": period.label, "findings": told}
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=1))
    else:
        show_findings(console, findings, period.label)
    if any(finding.severity == Severity.ERROR for finding in findings):
        raise typer.Exit(1)


ReportFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A report file.")
]
Project = Annotated[
    Path | None,
    typer.Option("--project", help="A project's folder, whose own templates are used too."),
]


@app.command("inspect")
def inspect_command(
    file: ReportFile,
    project: Project = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Say what a report file is, what it comes to, and what of it is refused and why.

    Nothing is stored. Works for DDEX DSR files, for every known statement, and for catalogs.
    """
    from royalty_assets.inspection_table import show_inspection
    from royalty_assets.sources.inspection import inspect_file

    with told_errors():
        found = inspect_file(file, _templates(project))
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        show_inspection(console, found)


templates_app = typer.Typer(
    help="Templates: how senders' files are laid out.", no_args_is_help=True
)
app.add_typer(templates_app, name="template")


@templates_app.command("suggest")
def template_suggest(
    file: ReportFile,
    project: Project = None,
    name: Annotated[str | None, typer.Option(help="Of the template; else the file's.")] = None,
) -> None:
    """Draft a template for a file that none recognises, for a person to finish.

    `royalty-assets template suggest FILE > my-label/templates/some_sender.yaml`
    """
    from royalty_assets.sources.template_draft import suggest_template
    from royalty_assets.sources.text_lines import TextLines, UnreadableFileError

    with told_errors():
        known = [t for t in _templates(project) if t.records == "report_lines"]
        with file.open("rb") as stream:
            try:
                own_name = file.name.partition(".")[0]
                typer.echo(suggest_template(name or own_name, TextLines(stream), known), nl=False)
            except UnreadableFileError as error:
                raise SettingsError(f"{file}: {error.reason}") from None


@templates_app.command("list")
def template_list(project: Project = None) -> None:
    """List the known templates and their generations, with the columns that tell them."""
    table = Table("template", "generation", "rows are", "known by")
    with told_errors():
        for template in _templates(project):
            cells = [template.name, template.generation, template.records.replace("_", " ")]
            table.add_row(*map(escape, [*cells, ", ".join(template.signature)]))
    console.print(table)


def _templates(project: Path | None) -> "list[Template]":
    from royalty_assets.sources.templates import bundled_templates, read_templates

    own = [] if project is None else read_templates(project / "templates")
    return [*bundled_templates(), *own]


class ExampleKind(StrEnum):
    """How files of examples are laid out."""

    CLUSTERS = "clusters"
    PAIRS = "pairs"


TrainFile = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, help="Labelled examples to learn from.")
]
TestFile = Annotated[
    Path, typer.Option(exists=True, dir_okay=False, help="Labelled examples to be measured on.")
]


@app.command("bench-matching")
def bench_matching(
    kind: Annotated[ExampleKind, typer.Option(help="How both files are laid out.")],
    train: TrainFile,
    test: TestFile,
    fields: Annotated[
        str | None, typer.Option(help="Only these, as title,artist; else all that both files have.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Measure matching on labelled files: precision, recall and F1.

    **clusters**: CSV with a header of at least `cluster,title`, and any of `number`, `artist`,
    `album`, `year`, `language`; records of one cluster are one recording. Counted are all pairs
    of records.

    **pairs**: lines of left, right and label (1 or 0), separated by tabs; a side is
    `COL title VAL ... COL artist VAL ...`, and any of `album`, `price`, `copyright`, `duration`,
    `released`, or the iTunes-Amazon benchmark's own names.

    Weights and threshold are learnt from the training file alone.

    `royalty-assets bench-matching --kind clusters --train train.csv --test valid.csv`
    """
    from royalty_assets.matching_quality import FIELDS, measure_matching, show_quality

    wanted = None
    if fields is not None:
        wanted = [name.strip() for name in fields.split(",") if name.strip()]
        known = FIELDS[kind.value]
        if not wanted or (unknown := [name for name in wanted if name not in known]):
            told = f"no field {unknown[0]!r}" if wanted else "no field is named"
            raise typer.BadParameter(f"{told}; {kind.value} files have {', '.join(known)}")
    with told_errors():
        quality = measure_matching(kind.value, train, test, wanted)
    if as_json:
        typer.echo(json.dumps(quality.as_json(), indent=1))
    else:
        show_quality(console, quality)


@app.command()
def ui(
    home: Home = Path("data"),
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Of the web page, on 127.0.0.1.")
    ] = 3000,
    host: Host = LOOPBACK,
    behind_proxy: BehindProxy = None,
) -> None:
    """Open a project in the Dagster UI, on 127.0.0.1.

    For the demo's project the simulated services are started beside it, so that everything can
    be materialised again.
    """
    import dagster as dg

    from royalty_assets.orchestration.dagster_home import prepare_dagster_home
    from royalty_assets.orchestration.runner import fail_orphaned_runs
    from royalty_assets.orchestration.session import PipelineSession

    with told_errors():
        load_project(home)
        listening = where_to_listen(host, behind_proxy)
        if _is_taken(port):
            raise SettingsError(f"port {port} is taken; choose another with --port")
        settings = Settings(home=home)
        PipelineSession(settings, load_project(home)).ensure_signer()
        os.environ |= prepare_dagster_home(settings)
        os.environ["ROYALTY_ASSETS_HOME"] = str(home.resolve())
        with dg.DagsterInstance.get() as instance:
            orphans = fail_orphaned_runs(instance, everyone=True)
        if orphans:
            console.print(f"{orphans} runs of a process that ended were marked as failed.")
        with _services_of(home):
            console.print(f"Dagster UI: http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
            command = [sys.executable, "-m", "dagster", "dev", "-m", "royalty_assets.definitions"]
            _serve([*command, "-h", listening.address, "-p", str(port)])


@app.command()
def desk(
    home: Home = Path("data"),
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Of the web page, on 127.0.0.1.")
    ] = 3100,
    host: Host = LOOPBACK,
    behind_proxy: BehindProxy = None,
) -> None:
    """Decide about usage that no recording was found for, in the browser, on 127.0.0.1.

    The questions with most money come first. A decision becomes a rule that the next run applies,
    to all usage of its kind; `Apply decisions` on the page starts that run.
    """
    import uvicorn

    from royalty_assets.desk.app import make_desk
    from royalty_assets.orchestration.session import PipelineSession

    with told_errors():
        listening = where_to_listen(host, behind_proxy)
        if _is_taken(port):
            raise SettingsError(f"port {port} is taken; choose another with --port")
        session = PipelineSession(Settings(home=home), load_project(home))
        app_of_desk = make_desk(session.context, listening.names)
        console.print(f"The desk: http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
        uvicorn.run(
            app_of_desk,
            host=listening.address,
            port=port,
            log_level="warning",
            server_header=False,
            # Only whether the browser's side is https is taken from it.
            forwarded_allow_ips=LOOPBACK if behind_proxy is None else "*",
        )
        session.close()


@contextmanager
def _services_of(home: Path) -> Iterator[None]:
    """The simulated services beside a demo's project; nothing beside any other."""
    if DEMO_MARK not in (home / "feeds.yaml").read_text(encoding="utf-8"):
        yield
        return
    with simulated_services(read_scenario(home)) as url:
        os.environ[SIMULATOR_URL_VARIABLE] = url
        yield


def _serve(command: list[str]) -> None:
    """Run a server until it ends, or this process is asked to; then end it too."""
    # Dagster warns of its own previews at each start of each of its processes.
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, env=quiet) as server:  # noqa: S603 - our own words
        signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signal.SIGINT))
        # Ctrl-C reaches the server as well; it is given the time to end in order.
        while server.poll() is None:
            with suppress(KeyboardInterrupt):
                server.wait()


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@app.command()
def simulate(
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 for any that is free.")] = 8765,
    events: Events = _DEFAULTS.events,
    hours: Hours = _DEFAULTS.hours,
    recordings: Recordings = _DEFAULTS.recordings,
    seed: Seed = _DEFAULTS.seed,
    faults: Annotated[
        float, typer.Option(min=0, max=1, help="Chance of a fault per request; 0 for none.")
    ] = 0.0,
    until_stdin_closes: Annotated[
        bool, typer.Option(help="End when standard input is closed, as by a parent's death.")
    ] = False,
) -> None:
    """Serve the simulated services on 127.0.0.1 and print their URL."""
    from threading import Event

    from royalty_assets.simulator.faults import FaultPlan
    from royalty_assets.simulator.server import SimulatedServices, serve

    scenario = Scenario(seed=seed, events=events, recordings=recordings, hours=hours)
    plan = FaultPlan.all(seed, faults) if faults else FaultPlan()
    with serve(SimulatedServices(scenario, faults=plan), port) as url:
        print(url, flush=True)
        try:
            if until_stdin_closes:
                sys.stdin.read()
            else:
                Event().wait()
        except KeyboardInterrupt:
            pass


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    with told_errors():
        configure_logs_as_set()
