"""A first draft of a template for a file that none recognises; a person finishes it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import yaml
from rapidfuzz import fuzz, process

from royalty_assets.domain.identifiers import normalise_gtin, normalise_isrc
from royalty_assets.domain.money import currency_codes
from royalty_assets.domain.territories import territory_of
from royalty_assets.sources.cells import header_cells
from royalty_assets.sources.templates import ISO_DATES, Template, fold, nearest, recognise
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError
from royalty_assets.sources.written import plain_number, read_date

_LINES = 60
_HEADER_LINES = 20
_ALIKE = 88
_DELIMITERS = ("\t", ";", ",", "|")
_OTHER_DATES = ("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%b-%y", "%B %Y", "%m/%d/%Y %I:%M:%S %p")
_NEEDED = ("used_on", "territory", "units")


@dataclass(frozen=True, slots=True)
class _Guess:
    """One column: what it may hold, and why."""

    column: str
    field: str | None
    why: str
    sample: str


def suggest_template(name: str, text: TextLines, templates: Sequence[Template]) -> str:
    """YAML of a template that reads the file, as far as its header and first lines tell.

    Args:
        name: for the template; other than letters and digits become underscores.
        text: the file's lines.
        templates: of report lines, to learn from.

    Raises:
        UnreadableFileError: if no line looks like a header.
    """
    lines = [line.text for line in islice(text.lines(), _LINES)]
    delimiter, at, header = _header(lines)
    samples = [
        cells
        for line in lines[at + 1 :]
        if len(cells := header_cells(line, delimiter)) == len(header)
    ]
    guesses = _guesses(header, samples, templates)
    return _render(_as_name(name), header, samples, guesses, templates, at)


def _header(lines: Sequence[str]) -> tuple[str, int, list[str]]:
    """Delimiter, position and cells of the line that most looks like a header."""
    best: tuple[int, str, int, list[str]] | None = None
    for at, line in enumerate(lines[:_HEADER_LINES]):
        for delimiter in _DELIMITERS:
            cells = header_cells(line, delimiter)
            names = [cell for cell in cells if re.search(r"[^\W\d_]", cell)]
            if len(cells) < 3 or len(names) < len(cells) * 0.9 or len(set(names)) < 3:
                continue
            if best is None or len(cells) > best[0]:
                best = (len(cells), delimiter, at, cells)
    if best is None:
        raise UnreadableFileError(
            "file:no_header", f"none of the first {_HEADER_LINES} lines looks like column names"
        )
    return best[1:]


def _guesses(
    header: Sequence[str], samples: Sequence[Sequence[str]], templates: Sequence[Template]
) -> list[_Guess]:
    known: dict[str, str] = {}
    for template in templates:
        for field, columns in template.columns.items():
            for column in columns:
                known.setdefault(fold(column), field)
    taken: set[str] = set()
    guesses = []
    by_name = [_by_name(column, known) for column in header]
    named = {field for field, _ in by_name}
    for at, column in enumerate(header):
        values = [cells[at] for cells in samples if cells[at]]
        guess, why = by_name[at]
        if guess is None:
            guess, why = _by_values(values)
            guess = None if guess in named else guess
        if guess in taken:
            guess, why = None, f"may be {guess} too"
        if guess is not None:
            taken.add(guess)
        guesses.append(_Guess(column, guess, why, values[0] if values else ""))
    return guesses


def _by_name(column: str, known: dict[str, str]) -> tuple[str | None, str]:
    if (field := known.get(fold(column))) is not None:
        return field, "another sender's name for it"
    alike = process.extractOne(fold(column), known.keys(), scorer=fuzz.token_sort_ratio)
    if alike is not None and alike[1] >= _ALIKE:
        return known[alike[0]], f"like {alike[0]!r}"
    return None, ""


def _by_values(values: Sequence[str]) -> tuple[str | None, str]:
    if not values:
        return None, ""
    tests = {
        "isrc": lambda text: normalise_isrc(text) is not None,
        "upc": lambda text: normalise_gtin(text) is not None and len(text) >= 11,
        "currency": lambda text: text in currency_codes(),
        "territory": lambda text: not text.isdecimal() and territory_of(text) is not None,
        "used_on": lambda text: not isinstance(read_date(text, (*ISO_DATES, *_OTHER_DATES)), str),
    }
    for field, test in tests.items():
        if all(map(test, values)):
            return field, "by its values"
    return None, ""


def _render(
    name: str,
    header: Sequence[str],
    samples: Sequence[Sequence[str]],
    guesses: Sequence[_Guess],
    templates: Sequence[Template],
    at: int,
) -> str:
    out = [
        f"# A draft: see every line marked TODO, then put it into templates/{name}.yaml of your",
        "# project and look at the file with `royalty-assets inspect`.",
        f"# The header is line {at + 1}, with {len(header)} columns.",
    ]
    if (near := nearest(header, templates)) is not None:
        lacking = ", ".join(near[1]) or "no other column that tells it"
        out.append(f"# Nearest known: {near[0].told}; it also has {lacking}.")
    if (known := recognise(header, templates)) is not None:
        out.append(
            f"# {known.told} reads this file already; a template of your own replaces it only"
        )
        out.append("# if it has more signature columns.")
    out += [f"name: {_quoted(name)}", "records: report_lines", "signature:"]
    out += [f"  - {_quoted(column)}" for column in _signature(header, templates)]
    out.append("columns:" if any(guess.field for guess in guesses) else "columns: {}")
    for guess in guesses:
        told = f"  # {guess.why}; {guess.sample[:40]!r}"
        if guess.field is not None:
            out.append(f"  {guess.field}: {_quoted(guess.column)}{told}")
    for field in _NEEDED:
        if field not in {guess.field for guess in guesses}:
            out.append(f"  # TODO {field}: which column? Every line needs it.")
    if not {"isrc", "title", "upc"} & {guess.field for guess in guesses}:
        out.append("  # TODO isrc, upc or title: what says which recording it is?")
    if "amount" not in {guess.field for guess in guesses}:
        out.append("  # TODO amount: is one of the columns below the money? Without it these lines")
        out.append("  # share the feed's pool.")
    if rest := [guess for guess in guesses if guess.field is None]:
        out.append("  # Not read:")
        out += [f"  #   {guess.column!r} {guess.why} {guess.sample[:40]!r}" for guess in rest]
    out += _constants(guesses)
    out += _formats(header, samples, guesses)
    return "\n".join(out) + "\n"


def _constants(guesses: Sequence[_Guess]) -> list[str]:
    fields = {guess.field for guess in guesses}
    if "amount" in fields and "currency" not in fields:
        return ["constants: {currency: USD}  # TODO no column names it; which is it?"]
    return []


def _formats(
    header: Sequence[str], samples: Sequence[Sequence[str]], guesses: Sequence[_Guess]
) -> list[str]:
    out = []
    of_field = {guess.field: header.index(guess.column) for guess in guesses if guess.field}
    if "used_on" in of_field:
        days = [cells[of_field["used_on"]] for cells in samples if cells[of_field["used_on"]]]
        fitting = [f for f in _OTHER_DATES if days and not any(_is_text(day, f) for day in days)]
        if days and any(isinstance(read_date(day, ISO_DATES), str) for day in days):
            which = ", ".join(f'"{f}"' for f in fitting) or '"%Y-%m-%d"'
            todo = "  # TODO which of these?" if len(fitting) > 1 else "  # TODO is it this?"
            todo = "" if len(fitting) == 1 else todo
            out.append(f"date_format: [{which}]{todo}")
    if "amount" in of_field:
        amounts = [cells[of_field["amount"]] for cells in samples if cells[of_field["amount"]]]
        if any(plain_number(text, ".") is None for text in amounts):
            out.append('decimal: ","')
    return out


def _is_text(day: str, date_format: str) -> bool:
    return isinstance(read_date(day, (date_format,)), str)


def _signature(header: Sequence[str], templates: Sequence[Template]) -> list[str]:
    """Columns that no known template has, most telling first; at least four where there are."""
    common = {fold(c) for t in templates for columns in t.columns.values() for c in columns}
    folded = [fold(column) for column in header]
    unique = [c for c in header if c and folded.count(fold(c)) == 1]
    rare = [column for column in unique if fold(column) not in common]
    return (rare + [column for column in unique if column not in rare])[: max(4, len(rare[:6]))]


def _as_name(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")
    return plain if plain[:1].isalpha() else f"report_{plain}"


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, allow_unicode=True, width=1000).strip().removesuffix("...").strip()
