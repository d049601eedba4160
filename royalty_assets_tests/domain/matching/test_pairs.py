"""Fields of a pair: titles taken apart, lengths and days as they are written."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.matching.pairs import (
    PAIR_FIELDS,
    compare_pair,
    duration_seconds,
    release_day,
    song_title,
)


@pytest.mark.parametrize(
    ("title", "words", "versions", "guests"),
    [
        ("Stay ( feat . Mikky Ekko )", "stay", "", "ekko mikky"),
        ("I 'm a Machine [ Explicit ]", "im a machine", "", ""),
        ("Rocket ( Pelican Remix ; feat . Rosa )", "rocket", "pelican remix", "rosa"),
        ("Part II feat . Iris", "part 2", "", "iris"),
        ("Hurt ( Live ( 1998 ) )", "hurt", "1998 live", ""),
        ("Nights - EP", "nights", "", ""),
        ("Dolla $ ign & Friends", "dolla sign friends", "", ""),
        ("", "", "", ""),
    ],
)
def test_a_title_falls_into_words_versions_and_guests(title, words, versions, guests):
    parts = song_title(title)
    assert " ".join(parts.words) == words
    assert (" ".join(sorted(parts.versions)), " ".join(sorted(parts.guests))) == (versions, guests)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3:34", 214), ("1:02:03", 3723), ("0:59 min", 59), ("", None), ("3.5", None)],
)
def test_lengths_are_read(text, seconds):
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("18-May-15", date(2015, 5, 18)),
        ("18-May-85", date(1985, 5, 18)),
        ("May 18 , 2015", date(2015, 5, 18)),
        ("2015-05-18", date(2015, 5, 18)),
        ("31-Feb-15", None),
        ("18-Foo-15", None),
        ("2015", None),
    ],
)
def test_days_of_release_are_read(text, day):
    assert release_day(text) == day


SIDE = st.dictionaries(st.sampled_from(PAIR_FIELDS), st.text(max_size=80))


@given(SIDE, SIDE)
def test_any_two_sides_have_finite_features_whichever_comes_first(left, right):
    features = compare_pair(left, right)
    assert len(features) == 18
    assert features == compare_pair(right, left)
    assert all(-1 <= value <= 2 for value in features)


def test_a_side_of_ten_megabytes_costs_no_more_than_its_beginning():
    for hostile in ("(" * 10_000_000, "1:" * 5_000_000, "()" * 5_000_000, "\u202e" * 10_000_000):
        side = dict.fromkeys(PAIR_FIELDS, hostile)
        assert len(compare_pair(side, side)) == 18
