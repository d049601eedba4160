"""Names in their normal form: what must look equal does, and what differs still differs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.matching.normalise import normalise_credits, normalise_title


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Flowers", "FLOWERS"),
        ("Déjà Vu", "Deja vu"),
        ("Can’t Stop", "Can't Stop"),
        ("Wild Thoughts (feat. Rihanna & Bryson Tiller)", "Wild Thoughts (ft. Rihanna)"),
        ("Despacito (Featuring Daddy Yankee)", "Despacito [feat. Daddy Yankee]"),
        ("STAY (with Justin Bieber)", "Stay (with somebody)"),
        ("Mr. Brightside", "Mr Brightside"),
        ("Monster (Shawn Mendes &amp; Justin Bieber)", "Monster (Shawn Mendes & Justin Bieber)"),
    ],
)
def test_these_titles_are_equal(left, right):
    assert normalise_title(left) == normalise_title(right)


@pytest.mark.parametrize(
    ("title", "core", "version", "edition"),
    [
        ("Toxic - Remastered 2019", "toxic", "", "2019 remastered"),
        ("You Don't Know Me - Radio Edit", "you dont know me", "", "edit radio"),
        ("Old Town Road - Diplo Remix", "old town road", "diplo remix", ""),
        ("SAD GIRLZ LUV MONEY Remix (feat. Kali Uchis)", "sad girlz luv money", "remix", ""),
        ("Hurt (Live)", "hurt", "live", ""),
        ("(I Can't Get No) Satisfaction", "i cant get no satisfaction", "", ""),
        ("Love Me (Sped Up)", "love me", "sped up", ""),
        ("Live Forever", "live forever", "", ""),
        ("(Live)", "live", "", ""),
        ("Hurt (Live at Wem", "hurt", "at live wem", ""),
        ("Hurt (Liv", "hurt", "liv", ""),
        ("Hurt [re", "hurt", "re", ""),
        ("Hurt (Remaster", "hurt", "", "remaster"),
        ("Hurt (feat. Some", "hurt", "", ""),
        ("Hurt (fea", "hurt", "", ""),
        ("Hurt (When It Rai", "hurt when it rai", "", ""),
        ("Hurt (", "hurt", "", ""),
    ],
)
def test_a_title_falls_into_core_version_and_edition(title, core, version, edition):
    parts = normalise_title(title)
    assert (parts.core, parts.version, parts.edition) == (core, version, edition)


def test_numbers_are_kept_apart():
    assert normalise_title("Intro, Pt. 1").numbers == "1"
    assert normalise_title("Intro, Pt. 2").numbers == "2"


@pytest.mark.parametrize(
    ("artist", "credited"),
    [
        ("The Kid LAROI, Justin Bieber", ["the kid laroi", "justin bieber"]),
        ("Amaarae, Kali Uchis & Moliy", ["amaarae", "kali uchis", "moliy"]),
        ("Drake feat. Rihanna", ["drake", "rihanna"]),
        ("", []),
    ],
)
def test_credits_are_listed_first_one_first(artist, credited):
    assert normalise_credits(artist) == credited


@given(st.text(max_size=400))
def test_any_text_has_a_normal_form_that_is_plain(title):
    """Hostile titles too: right-to-left marks, zero-width and control characters, markup."""
    parts = normalise_title(title)
    for text in (parts.core, parts.version, parts.edition):
        assert text == text.strip().lower()
        assert text.isascii()
        assert "  " not in text


def test_a_title_of_ten_megabytes_costs_no_more_than_its_beginning():
    assert len(normalise_title("la " * 3_500_000).core) <= 300
