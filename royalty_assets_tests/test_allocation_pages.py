"""What the pages about allocation say is what the models compute."""

import re
from collections import defaultdict
from fractions import Fraction

from royalty_assets.domain.allocation import StreamThreshold
from royalty_assets_tests.allocation_example import (
    DOCS,
    PARTS,
    euros,
    pictures,
    terminal,
)
from royalty_assets_tests.domain.test_allocation import (
    PUBLISHED_ARTIST_CENTRIC,
    PUBLISHED_PLAYS,
    PUBLISHED_POOL,
    artist_centric_by_hand,
    claims_of,
    half_up,
    user_centric_by_hand,
)

PAGE = (DOCS / "explanation/allocation.md").read_text(encoding="utf-8")
HOW_TO = (DOCS / "how-to/choose-an-allocation-model.md").read_text(encoding="utf-8")
ARTISTS = "ABCD"
FEE = PUBLISHED_POOL // 4


def row(*cells) -> str:
    return "|" + "|".join(f" {cell} " for cell in cells) + "|\n"


def by_listener():
    plays = defaultdict(dict)
    for listener, artist, units, active in PUBLISHED_PLAYS:
        plays[listener][artist] = (units, active)
    return plays


def test_the_plays_of_the_example():
    for listener, played in by_listener().items():
        units = {artist: number for artist, (number, _) in played.items()}
        cells = [units.get(artist, "") for artist in ARTISTS]
        assert row(listener, *cells, sum(units.values())) in PAGE
    total = {artist: claim.units for artist, claim in claims_of(PUBLISHED_PLAYS).items()}
    assert row("all", *(total[a] for a in ARTISTS), sum(total.values())) in PAGE
    assert f"A has {total['A']} of {sum(total.values())} plays" in PAGE
    below = [a for a in ARTISTS if total[a] < 50]
    assert below == ["B", "D"]
    assert f"B ({total['B']} plays) and D ({total['D']}) are below 50" in PAGE


def test_the_table_of_models():
    for name, parts in PARTS.items():
        cells = [euros(parts[artist]) for artist in ARTISTS]
        assert row(name, *cells, euros(PUBLISHED_POOL)) in PAGE


def test_the_weights_of_the_artist_centric_model():
    plays = by_listener()
    unboosted = PUBLISHED_ARTIST_CENTRIC.model_copy(
        update={"artist_multiplier": 1, "active_multiplier": 1}
    )
    capped = artist_centric_by_hand(unboosted, plays)
    weights = artist_centric_by_hand(PUBLISHED_ARTIST_CENTRIC, plays)
    assert row("plays, capped", *(capped[a] for a in ARTISTS)) in PAGE
    assert row("weight", *(weights[a] for a in ARTISTS)) in PAGE
    of_u3 = {a: n * 100 // 400 for a, (n, _) in plays["u3"].items()}
    assert f"as 100: A {of_u3['A']}, C {of_u3['C']}" in PAGE
    assert plays["u1"]["A"][1] == 40
    assert plays["u4"]["D"][1] == 1


def in_thirds(cents: Fraction) -> str:
    third = {0: "", Fraction(1, 3): "⅓", Fraction(2, 3): "⅔"}[cents % 1]
    return euros(int(cents)) + third


def test_what_is_exact_and_what_rounding_each_part_would_pay():
    exact = user_centric_by_hand(by_listener(), dict.fromkeys(by_listener(), FEE))
    a, b, c, d = (in_thirds(exact[artist]) for artist in ARTISTS)
    assert f"{a}, {b}, {c} and {d}" in PAGE
    user_centric = sum(map(half_up, exact.values()))
    units = [claim.units for claim in claims_of(PUBLISHED_PLAYS).values()]
    pro_rata = sum(half_up(Fraction(PUBLISHED_POOL * n, sum(units))) for n in units)
    assert f"{euros(user_centric)} would be paid; pro rata, {euros(pro_rata)}" in PAGE
    from_u1, from_u3 = FEE * 90 // 100, FEE * 300 // 400
    assert f"{euros(from_u1)} + {euros(from_u3)}" in PAGE
    assert from_u1 + from_u3 == exact["A"]
    assert f"{euros(FEE // 2)} for A and {euros(FEE // 2)} for B" in PAGE


def test_no_amount_on_the_page_is_made_up():
    exact = user_centric_by_hand(by_listener(), dict.fromkeys(by_listener(), FEE)).values()
    cents = {part for parts in PARTS.values() for part in parts.values()}
    cents |= {int(part) for part in exact} | {FEE, FEE // 2, PUBLISHED_POOL, 2799, 2801, 630, 525}
    assert set(re.findall(r"\d+\.\d\d", PAGE)) == set(map(euros, cents))


def test_the_defaults_that_are_told():
    model = type(PUBLISHED_ARTIST_CENTRIC)()
    assert f"| `plays_cap` | {model.plays_cap} |" in PAGE
    assert f"| `cap_rule` | `{model.cap_rule}` |" in PAGE
    assert f"| {model.artist_units_min}, {model.artist_listeners_min} |" in PAGE
    assert f"| `artist_multiplier` | {model.artist_multiplier} |" in PAGE
    assert f"| `active_multiplier` | {model.active_multiplier} |" in PAGE
    assert f"`units_min: {StreamThreshold().units_min}` by default" in PAGE


def test_the_pictures_and_the_terminal_are_of_the_same_figures():
    """`python -m royalty_assets_tests.allocation_example` draws them anew."""
    for name, content in pictures().items():
        assert (DOCS / "images" / name).read_text(encoding="utf-8") == content
    assert f"```text\n{terminal()}\n```" in HOW_TO
