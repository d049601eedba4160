"""The example of `docs/explanation/allocation.md`: its figures, and the pictures drawn of them.

`python -m royalty_assets_tests.allocation_example` draws the pictures anew; a test holds that the
pages say what is computed here.
"""

from io import StringIO
from pathlib import Path

from rich.console import Console

from royalty_assets.domain.allocation import ProRata, Shapley, StreamThreshold, UserCentric
from royalty_assets.domain.money import ATOMS_PER_UNIT
from royalty_assets.pipeline.what_if import Change, WhatIf
from royalty_assets.what_if_report import show_what_if, what_if_svg
from royalty_assets_tests.domain.test_allocation import (
    PUBLISHED_ARTIST_CENTRIC,
    PUBLISHED_PLAYS,
    PUBLISHED_POOL,
    allocate,
    claims_of,
)

DOCS = Path(__file__).parents[1] / "docs"
MODELS = {
    "pro rata": ProRata(),
    "user-centric": UserCentric(),
    "Shapley": Shapley(),
    "threshold of 50": StreamThreshold(units_min=50),
    "artist-centric": PUBLISHED_ARTIST_CENTRIC,
}
PARTS = {name: allocate(model, PUBLISHED_POOL, PUBLISHED_PLAYS) for name, model in MODELS.items()}
"""Model → artist → cents."""
_COLOURS = {"A": "#34597d", "B": "#a8741a", "C": "#3f7d58", "D": "#a33b2a"}


def euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def stacked_bars() -> str:
    """One bar per model, of the parts of A to D."""
    width, left, across = 760, 130, 600
    rows = []
    for number, (name, parts) in enumerate(PARTS.items()):
        y = 58 + 44 * number
        rows.append(f'<text x="{left - 12}" y="{y + 20}" text-anchor="end">{name}</text>')
        x = left
        for artist, cents in sorted(parts.items()):
            length = cents * across // PUBLISHED_POOL
            rows.append(
                f'<rect x="{x}" y="{y}" width="{length}" height="30" fill="{_COLOURS[artist]}"/>'
            )
            if length > 40:
                rows.append(
                    f'<text x="{x + length // 2}" y="{y + 20}" text-anchor="middle" fill="#fff">'
                    f"{euros(cents)}</text>"
                )
            x += length
    height = 58 + 44 * len(PARTS) + 8
    legend = [
        f'<rect x="{left + 60 * n}" y="20" width="14" height="14" fill="{colour}"/>'
        f'<text x="{left + 60 * n + 20}" y="32">{artist}</text>'
        for n, (artist, colour) in enumerate(_COLOURS.items())
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="14" role="img">'
    )
    background = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    title = "<title>What A, B, C and D get of 28.00 euros by each model</title>"
    return "\n".join([head, title, background, *legend, *rows, "</svg>\n"])


def example_as_what_if() -> WhatIf:
    """From pro rata to user-centric, as the command would find it."""
    cent = ATOMS_PER_UNIT // 100
    units = {artist: claim.units for artist, claim in claims_of(PUBLISHED_PLAYS).items()}
    before, after = PARTS["pro rata"], PARTS["user-centric"]
    recordings = [
        Change("EUR", f"R-{a}", f"Song by {a}", a, units[a], before[a] * cent, after[a] * cent)
        for a in before
    ]
    holders = [
        Change("EUR", a, f"Label of {a}", "", 0, before[a] * cent, after[a] * cent) for a in before
    ]
    feeds = {"sonora": ProRata()}
    return WhatIf("2025-03-01", UserCentric(), feeds, [], recordings, holders)


def terminal() -> str:
    """What the command prints of the example."""
    console = Console(file=StringIO(), width=100)
    show_what_if(console, example_as_what_if(), 5)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def pictures() -> dict[str, str]:
    """File in `docs/images` → its content."""
    title = "2025-03, by user_centric: gains and losses by recording"
    return {
        "allocation.svg": stacked_bars(),
        "what-if.svg": what_if_svg(title, example_as_what_if().recordings, 5),
    }


if __name__ == "__main__":
    for name, content in pictures().items():
        (DOCS / "images" / name).write_text(content, encoding="utf-8")
