"""Territory sets as contracts write them, and the one normal form of an ISRC."""

import pytest

from royalty_assets.domain.identifiers import normalise_isrc
from royalty_assets.domain.territories import TerritorySet


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
