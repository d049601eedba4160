"""Territories as they are written and as sets, and the one normal form of each identifier."""

import json
from datetime import date
from pathlib import Path

import pytest

from royalty_assets.domain.identifiers import (
    isrc_prefix_is_known,
    normalise_grid,
    normalise_gtin,
    normalise_ipi,
    normalise_isni,
    normalise_isrc,
    normalise_iswc,
)
from royalty_assets.domain.territories import TerritorySet, territory_of, universe

CODE_LISTS = Path(__file__).parents[3] / "shared/data/dsr/ddex_code_lists.json"


@pytest.fixture
def ddex_code_lists():
    if not CODE_LISTS.exists():
        pytest.skip("DDEX's code lists are not here")
    return json.loads(CODE_LISTS.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Worldwide", ["DE", "XK", "Worldwide"], ["QQ"]),
        ("DE|AT|CH", ["AT"], ["FR"]),
        ("de, at", ["DE", "AT"], ["CH"]),
        ("Worldwide -NO", ["SE"], ["NO", "Worldwide"]),
        ("DE|AT -AT", ["DE"], ["AT"]),
    ],
)
def test_a_territory_set_is_includes_minus_excludes(text, inside, outside):
    territories = TerritorySet.parse(text)
    assert all(code in territories for code in inside)
    assert not any(code in territories for code in outside)


@pytest.mark.parametrize("text", ["", "-DE", "Atlantis", "DE|QQ"])
def test_a_set_that_covers_nothing_known_is_refused(text):
    with pytest.raises(ValueError, match="territory"):
        TerritorySet.parse(text)


@pytest.mark.parametrize(
    ("sent", "normal"),
    [
        ("USUM70600055", "USUM70600055"),
        ("us-um7-06-00055", "USUM70600055"),
        ("ISRC US UM7 06 00055", "USUM70600055"),
        ("USUM7060005", None),
        ("USUM706000555", None),
        ("USUM7O600055", None),
        ("", None),
    ],
)
def test_an_isrc_has_one_normal_form_and_is_never_repaired(sent, normal):
    assert normalise_isrc(sent) == normal


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("DE", "DE"),
        ("de", "DE"),
        (" deu ", "DE"),
        ("276", "DE"),
        ("8", "AL"),
        ("2136", "Worldwide"),
        ("World", "Worldwide"),
        ("worldwide", "Worldwide"),
        ("XK", "XK"),
        ("Kosovo", "XK"),
        ("UK", "GB"),
        ("ES-CN", "ES"),
        ("530", "AN"),
        ("Germany", "DE"),
        ("Deutschland", "DE"),
        ("Allemagne", "DE"),
        ("Россия", "RU"),
        ("Казахстан", "KZ"),
        ("日本", "JP"),
        ("Korea, Republic of", "KR"),
        ("Côte d’Ivoire", "CI"),
        ("Cote d'Ivoire", "CI"),
        ("THE NETHERLANDS", "NL"),
        ("Bosnia & Herzegovina", "BA"),
        ("Saint Lucia", "LC"),
        ("St. Lucia", "LC"),
        ("Türkiye", "TR"),
        ("Turkey", "TR"),
        ("United States of America", "US"),
        ("Macedonia", "MK"),
        ("Guinea", "GN"),
        ("Niger", "NE"),
        ("Dominica", "DM"),
        ("NA", "NA"),
        ("ZZ", None),
        ("EU", None),
        ("Europe", None),
        ("Unknown", None),
        ("", None),
    ],
)
def test_territories_are_understood_as_they_are_written(text, code):
    assert territory_of(text) == code


def test_the_universe_is_dated():
    assert "AN" in universe(date(2010, 1, 1))
    assert "AN" not in universe(date(2011, 1, 1))
    assert "AN" not in TerritorySet.parse("Worldwide -NO").members(date(2025, 3, 1))
    assert "DE" in TerritorySet.parse("Worldwide -NO").members(date(2025, 3, 1))


def test_every_territory_of_ddex_is_known(ddex_code_lists):
    unknown = {t for t in ddex_code_lists["CurrentTerritoryCode"] if territory_of(t) is None}
    # What is left are CISAC's regions (Africa, Europe, …) and states that were gone by 1993.
    assert unknown <= {str(number) for number in range(2100, 2136)} | {
        "200", "278", "280", "720", "810", "890",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("normalise", "text", "normal"),
    [
        (normalise_gtin, "036000291452", "00036000291452"),
        (normalise_gtin, "36000291452", "00036000291452"),
        (normalise_gtin, "0724384960650", "00724384960650"),
        (normalise_gtin, "036000291453", None),
        (normalise_gtin, "8.6E+11", None),
        (normalise_gtin, "00000000", None),
        (normalise_grid, "A12425GABC1234002M", "A12425GABC1234002M"),
        (normalise_grid, "A1-2425G-ABC1234002-M", "A12425GABC1234002M"),
        (normalise_grid, "A12425GABC1234002N", None),
        (normalise_iswc, "T-034.524.680-1", "T0345246801"),
        (normalise_iswc, "T9109247316", "T9109247316"),
        (normalise_iswc, "T1234567890", None),
        (normalise_isni, "0000 0001 2103 2683", "0000000121032683"),
        (normalise_isni, "0000000121032684", None),
        (normalise_ipi, "00014107338", "00014107338"),
        (normalise_ipi, "14107338", None),
        (normalise_ipi, "00014107339", None),
    ],
)
def test_identifiers_have_one_normal_form_or_none(normalise, text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("prefix", "known"), [("US", True), ("QZ", True), ("XK", True), ("XX", False), ("1", False)]
)
def test_prefixes_of_isrcs_are_known_or_not(prefix, known):
    assert isrc_prefix_is_known(prefix) is known
