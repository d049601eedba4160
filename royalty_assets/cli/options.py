"""What all commands share: their common arguments, the consoles, and how errors are told."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.segment import Segment

from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.settings import SettingsError


class PlainConsole(Console):
    """A console that texts from outside cannot steer.

    A title may hold an escape sequence, and terminals obey those. Control characters in what is
    printed are shown and not sent; those of styles are put there afterwards.
    """

    def render(self, *args: Any, **options: Any) -> Iterator[Segment]:  # noqa: D102 - as rich has it
        yield from _shown(super().render(*args, **options))


def _shown(segments: Iterable[Segment]) -> list[Segment]:
    return [
        each if each.control else each._replace(text=each.text.translate(_CONTROL_CHARACTERS))
        for each in segments
    ]


# C0 but for the line feed and tab that rich lays text out with, DEL, C1, and what turns the
# direction of writing.
_CONTROL_CHARACTERS = dict.fromkeys(
    (
        *(code for code in range(0x20) if code not in {0x09, 0x0A}),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    ),
    "\N{REPLACEMENT CHARACTER}",
)

console: Console = PlainConsole()
complaints: Console = PlainConsole(stderr=True)

Home = Annotated[Path, typer.Argument(envvar="ROYALTY_ASSETS_HOME", help="The project's folder.")]
Month = Annotated[str | None, typer.Option(help="One accounting period, as 2025-03.")]


def _told(error: Exception) -> str | None:
    """What an error says to do; None if it is a fault. Looked up only when there is one."""
    from royalty_assets.audit.keys import SigningKeyError
    from royalty_assets.audit.notes import NoteError
    from royalty_assets.orchestration.run_lock import AnotherRunError
    from royalty_assets.pipeline.failures import failure_of
    from royalty_assets.sources.linkage_files import LinkageFileError
    from royalty_assets.sources.templates import TemplateError

    by_what_they_say = (
        SettingsError | TemplateError | LinkageFileError | SigningKeyError | NoteError
    )
    if isinstance(error, by_what_they_say | AnotherRunError):
        return str(error)
    failure = failure_of(error)
    return None if failure is None else failure.problem


@contextmanager
def told_errors() -> Iterator[None]:
    """Errors that a person can mend are shown as they are, without a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        complaints.print("interrupted; run it again, and it goes on where it was", style="bold red")
        raise typer.Exit(130) from None
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        complaints.print("error:", style="bold red", end=" ")
        complaints.print(told, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None


def chosen_months(months: list[Partition], month: str | None) -> list[Partition]:
    """Those of some months that are asked for; all, where none is.

    Raises:
        SettingsError: if there is none.
    """
    if month is not None:
        months = [each for each in months if each.key == month_of(month).key]
    if not months:
        raise SettingsError("no ledger is committed for that; run the project first")
    return months


def month_of(text: str) -> Partition:
    """The accounting period that somebody wrote.

    Raises:
        SettingsError: if it is none.
    """
    try:
        return Partition.parse(Cadence.MONTHLY, f"{text}-01")
    except ValueError:
        raise SettingsError(f"{text!r} is not a month; write it as 2025-03") from None
