"""The cascade, by example and against an oracle that compares every name with every recording."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from royalty_assets.domain.adjudication import Rule
from royalty_assets.domain.catalog import CatalogRow, build_catalog
from royalty_assets.domain.matching import DECISION_SCHEMA, Matcher
from royalty_assets.domain.matching.candidates import CandidateIndex, normal_names
from royalty_assets.domain.matching.cascade import decide_names
from royalty_assets.simulator.scenario import SONORA, Scenario
from royalty_assets.simulator.telemetry import make_hour
from royalty_assets.simulator.world import make_world


def catalog(*recordings, rights=()):
    rows = [
        CatalogRow(
            "c.csv",
            i,
            {"recording_id": f"R{i}", "isrc": f"USUM7060{i:04d}", "title": title, "artist": artist},
        )
        for i, (title, artist) in enumerate(recordings)
    ]
    rights_rows = [
        CatalogRow(
            "r.csv", i, {"recording_id": r, "territories": t, "valid_from": f, "valid_to": to}
        )
        for i, (r, t, f, to) in enumerate(rights)
    ]
    return build_catalog(rows, [], rights_rows)[0]


def decide(
    matcher,
    isrc="",
    title="",
    artist="",
    territory="DE",
    day=date(2025, 3, 1),
    upc="",
    release_title="",
    rules=(),
):
    identity = pl.DataFrame(
        {
            "isrc": [isrc],
            "title": [title],
            "artist": [artist],
            "upc": [upc],
            "release_title": [release_title],
            "territory": [territory],
            "used_on": [day],
        }
    )
    return matcher.decide(identity, rules).select(DECISION_SCHEMA.keys()).to_dicts()[0]


SONGS = catalog(
    ("Flowers", "Miley Cyrus"),
    ("Shape of You", "Ed Sheeran"),
    ("Old Town Road", "Lil Nas X"),
    ("Intro, Pt. 1", "The xx"),
    ("Hello", "Adele"),
    ("Hello", "Lionel Richie"),
    ("New Rules", "Dua Lipa"),
    ("New Rules", "Dua Lipa"),
    ("Stay", "The Kid LAROI, Justin Bieber"),
)


EQUAL, SIMILAR = "title_artist_equal", "title_artist_similar"


@pytest.mark.parametrize(
    ("isrc", "title", "artist", "recording", "method"),
    [
        ("USUM70600000", "whatever", "", "R0", "isrc"),
        ("", "flowers", "MILEY CYRUS", "R0", EQUAL),
        ("", "Shape of You (feat. Nobody)", "Ed Sheeran", "R1", EQUAL),
        ("", "Shpae of You", "Ed Sheeran", "R1", SIMILAR),
        ("", "Flowers - Remastered 2023", "Miley Cyrus", "R0", SIMILAR),
        ("", "Hello", "Adele, Somebody", "R4", EQUAL),
        ("", "STAY (with Justin Bieber)", "The Kid LAROI", "R8", EQUAL),
        ("", "Stay (feat. Justin Bieber)", "The Kid LAROI", "R8", EQUAL),
        ("QZZZZ9900001", "Hello", "Adele", "R4", EQUAL),
    ],
)
def test_these_are_accepted(isrc, title, artist, recording, method):
    decision = decide(Matcher(SONGS), isrc, title, artist)
    assert (decision["recording_id"], decision["method"]) == (recording, method)
    assert decision["reason"] is None


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        ({"title": "Old Town Road - Diplo Remix", "artist": "Lil Nas X"}, "version_differs"),
        ({"title": "Flowers (Live)", "artist": "Miley Cyrus"}, "version_differs"),
        ({"title": "Flowers (Instrumental)", "artist": "Miley Cyrus"}, "version_differs"),
        ({"title": "Flowers (Sped Up)", "artist": "Miley Cyrus"}, "version_differs"),
        ({"title": "Flowers (Karaoke Version)", "artist": "Miley Cyrus"}, "version_differs"),
        ({"title": "Flowers (with Elton John)", "artist": "Miley Cyrus"}, "version_differs"),
        ({"title": "Intro, Pt. 2", "artist": "The xx"}, "number_in_title_differs"),
        ({"title": "New Rules", "artist": "Dua Lipa"}, "ambiguous"),
        ({"title": "Flowers", "artist": "Somebody Else"}, "too_different"),
        ({"title": "Zzyzx", "artist": "Qqq"}, "no_candidate"),
        ({"isrc": "QZZZZ9900001"}, "isrc_unknown"),
    ],
)
def test_these_are_questions_for_a_person(usage, reason):
    decision = decide(Matcher(SONGS), **usage)
    assert decision["recording_id"] is None
    assert (decision["method"], decision["reason"]) == ("exception", reason)


@pytest.mark.parametrize(
    ("territory", "day", "is_cleared"),
    [
        ("DE", date(2025, 3, 1), True),
        ("US", date(2025, 3, 1), False),
        ("DE", date(2019, 12, 31), False),
        ("DE", date(2020, 1, 1), True),
        ("DE", date(2026, 12, 31), True),
        ("DE", date(2027, 1, 1), False),
    ],
)
def test_a_recording_needs_a_right_at_territory_and_date(territory, day, is_cleared):
    songs = catalog(
        ("Flowers", "Miley Cyrus"), rights=[("R0", "Worldwide -US", "2020-01-01", "2026-12-31")]
    )
    for usage in ({"isrc": "USUM70600000"}, {"title": "Flowers", "artist": "Miley Cyrus"}):
        decision = decide(Matcher(songs), **usage, territory=territory, day=day)
        if is_cleared:
            assert decision["recording_id"] == "R0"
        else:
            assert decision["reason"] == "no_right_at_territory_and_date"
            assert decision["runner_up_id"] == "R0"


words = st.sampled_from(["red", "blue", "moon", "river", "night", "fire", "rivers", "moons"])
names = st.tuples(
    st.lists(words, min_size=1, max_size=3).map(" ".join),
    st.sampled_from(["ada", "ada lovelace", "bob", "bobs", "cyd"]),
)


@given(st.lists(names, min_size=1, max_size=12), st.lists(names, min_size=1, max_size=6))
def test_blocking_loses_nothing_that_comparing_everything_would_accept(recordings, queries):
    """The oracle scores all pairs; blocking may only leave out what would not be accepted."""
    known = catalog(*recordings).recordings
    index = CandidateIndex.build(known)
    everything = pl.DataFrame(
        {"key": ["all"] * known.height, "candidate": index.names["candidate"]}
    )

    class Exhaustive(CandidateIndex):
        def pairs(self, queries):
            return queries.select("query").join(everything.select("candidate"), how="cross")

    distinct = sorted(set(queries))
    blocked = decide_names(index, distinct)
    compared = decide_names(Exhaustive(index.names, index.postings), distinct)
    accepted = compared.filter(pl.col("method") != "exception")
    assert (
        blocked.filter(pl.col("method") != "exception")
        .select("title", "artist", "recording_id", "method")
        .equals(accepted.select("title", "artist", "recording_id", "method"))
    )


@given(st.lists(names, min_size=2, max_size=10), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_what_was_decided_before_and_in_which_order_changes_nothing(queries, random):
    recordings = [("red moon", "ada"), ("blue river", "bob"), ("night", "cyd"), ("red moon", "bob")]
    usage = pl.DataFrame(queries, schema=["title", "artist"], orient="row").with_columns(
        pl.lit("").alias("isrc"),
        pl.lit("").alias("upc"),
        pl.lit(None, pl.String).alias("release_title"),
        pl.lit("DE").alias("territory"),
        pl.lit(date(2025, 3, 1)).alias("used_on"),
    )
    plain = Matcher(catalog(*recordings)).decide(usage)
    asked = plain.filter(pl.col("method") == "exception")["subject"].drop_nulls().unique().sort()
    rules = [Rule(n, subject, "R1") for n, subject in enumerate(asked[::2], start=1)]
    whole = Matcher(catalog(*recordings)).decide(usage, rules)
    order = list(range(usage.height))
    random.shuffle(order)
    matcher = Matcher(catalog(*recordings))
    one_by_one = pl.concat([matcher.decide(usage[i : i + 1], rules[::-1]) for i in order])
    assert one_by_one.sort(pl.all()).equals(whole.sort(pl.all()))


def test_the_simulators_spellings_are_found_and_never_mistaken():
    """Against the simulator's truth: every accepted name is the recording that was played."""
    scenario = Scenario(events=60_000, recordings=1_500, hours=1, malformed=0.0, without_isrc=0.5)
    world = make_world(scenario)
    hour = make_hour(scenario, world, SONORA, scenario.partitions(SONORA)[0])
    plays = pl.read_ndjson(b"\n".join(hour.lines)).select("title", "artist")
    usage = pl.concat([plays, hour.truth.select("recording_id", "is_named_only")], how="horizontal")
    usage = usage.filter("is_named_only").unique(["title", "artist"], maintain_order=True)
    recordings = world.recordings
    decided = decide_names(CandidateIndex.build(recordings), usage.select("title", "artist").rows())
    judged = pl.concat(
        [usage.select(pl.col("recording_id").alias("truth")), decided], how="horizontal"
    )
    accepted = judged.filter(pl.col("method") != "exception")
    wrong = accepted.filter(pl.col("truth") != pl.col("recording_id"))
    assert wrong.is_empty(), wrong
    findable = judged.filter(
        pl.col("truth").is_not_null() & (pl.col("reason").fill_null("") != "ambiguous")
    )
    assert accepted.height / findable.height > 0.9


def test_names_keep_their_order():
    assert normal_names([("B", "x"), ("A", "y")])["title"].to_list() == ["B", "A"]


def on_releases(*recordings):
    rows = [
        CatalogRow("c.csv", i, {"recording_id": f"R{i}", "isrc": f"USUM7060{i:04d}"} | fields)
        for i, fields in enumerate(recordings)
    ]
    return Matcher(build_catalog(rows, [], [])[0])


TWICE = [
    {"title": "Halo", "artist": "Ada", "upc": "036000291452", "release_title": "First Light"},
    {"title": "Halo", "artist": "Ada", "upc": "724384960650", "release_title": "Best Of"},
    {"title": "Halo (Live)", "artist": "Ada", "upc": "724384960650", "release_title": "Best Of"},
]


def test_a_name_of_several_recordings_is_a_question():
    decided = decide(on_releases(*TWICE), title="Halo", artist="Ada")
    assert (decided["method"], decided["reason"]) == ("exception", "ambiguous")


@pytest.mark.parametrize(
    ("told", "recording", "method"),
    [
        ({"upc": "00036000291452"}, "R0", "upc_title"),
        ({"upc": "00724384960650"}, "R1", "upc_title"),
        ({"release_title": "First Light (Deluxe)"}, "R0", "title_artist_album"),
        ({"release_title": "best of"}, "R1", "title_artist_album"),
        ({"release_title": "Another"}, None, "exception"),
        ({"upc": "00012345678905"}, None, "exception"),
    ],
)
def test_upc_or_album_tells_recordings_of_one_name_apart(told, recording, method):
    decided = decide(on_releases(*TWICE), title="Halo", artist="Ada", **told)
    assert (decided["recording_id"], decided["method"]) == (recording, method)


def test_a_upc_finds_a_title_by_whatever_artist_but_no_other_version():
    matcher = on_releases(*TWICE)
    assert decide(matcher, title="HALO", artist="A. D. A.", upc="00036000291452")["recording_id"]
    live = decide(matcher, title="Halo (Karaoke)", artist="Ada", upc="00724384960650")
    assert live["recording_id"] is None


def test_a_rule_answers_for_an_unknown_isrc_and_leaves_a_known_one_alone():
    matcher = Matcher(SONGS)
    rule = Rule(7, "isrc:GBXXX2500001", "R1")
    decided = decide(matcher, isrc="GBXXX2500001", title="Anything", rules=[rule])
    assert (decided["recording_id"], decided["method"]) == ("R1", "rule")
    assert decided["rule_id"] == "rule 7"
    known = decide(matcher, isrc="USUM70600000", rules=[Rule(8, "isrc:USUM70600000", "R1")])
    assert (known["recording_id"], known["method"]) == ("R0", "isrc")


def test_a_rule_on_a_name_settles_all_its_spellings_and_no_known_isrc():
    matcher = Matcher(SONGS)
    subject = decide(matcher, title="New Rules", artist="Dua Lipa")["subject"]
    rule = Rule(3, subject, "R6")
    for title, artist in (("NEW RULES", "dua lipa"), ("New Rules (Remastered)", "Dua Lipa")):
        decided = decide(matcher, title=title, artist=artist, rules=[rule])
        assert (decided["recording_id"], decided["method"]) == ("R6", "rule")
    live = decide(matcher, title="New Rules (Live)", artist="Dua Lipa", rules=[rule])
    assert live["method"] != "rule"
    known = decide(matcher, isrc="USUM70600007", title="New Rules", artist="Dua Lipa", rules=[rule])
    assert (known["recording_id"], known["method"]) == ("R7", "isrc")


def test_a_rule_goes_before_likeness_and_after_equal_names():
    matcher = Matcher(SONGS)
    similar = decide(matcher, title="Flowrs", artist="Miley Cyrus")
    assert similar["method"] == "title_artist_similar"
    ruled = decide(matcher, title="Flowrs", artist="Miley Cyrus",
                   rules=[Rule(1, similar["subject"], "R1")])  # fmt: skip
    assert (ruled["recording_id"], ruled["method"]) == ("R1", "rule")
    equal = decide(matcher, title="Flowers", artist="Miley Cyrus")
    same = decide(matcher, title="Flowers", artist="Miley Cyrus",
                  rules=[Rule(1, equal["subject"], "R1")])  # fmt: skip
    assert same == equal


def test_a_rule_on_a_name_leaves_what_its_release_decides():
    matcher = on_releases(*TWICE)
    subject = decide(matcher, title="Halo", artist="Ada")["subject"]
    rules = [Rule(1, subject, "R0")]
    best_of = decide(matcher, title="Halo", artist="Ada", release_title="Best Of", rules=rules)
    assert (best_of["recording_id"], best_of["method"]) == ("R1", "title_artist_album")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"title": "Song", "artist": "Ada"}, {"title": "Song (with Bob)", "artist": "Ada"}),
        ({"title": "÷", "artist": "Ed"}, {"title": "???", "artist": "Ed"}),
        ({"release_title": "Hits", "artist": "Queen"}, {"release_title": "Hits", "artist": "Abba"}),
        ({"title": "x" * 400, "artist": "Ada"}, {"title": "x" * 399 + "y", "artist": "Bob"}),
        ({"isrc": "GBXXX2500001", "title": "A"}, {"isrc": "GBXXX2500002", "title": "A"}),
    ],
)
def test_what_differs_is_no_one_subject(one, other):
    matcher = Matcher(SONGS)
    assert decide(matcher, **one)["subject"] != decide(matcher, **other)["subject"]


def test_a_placeholder_for_an_isrc_is_no_subject():
    matcher = Matcher(SONGS)
    subjects = {
        decide(matcher, isrc="N/A", title=t, artist="Z")["subject"] for t in ("Moon", "Sky")
    }
    assert subjects == {"name:moon |  | z", "name:sky |  | z"}
    assert decide(matcher, isrc="N/A")["subject"] is None


def test_a_upc_does_not_make_another_artists_song_the_one_on_it():
    matcher = on_releases(*TWICE)
    for told in ({"artist": "Karaoke Band"}, {"artist": "Ada", "title": "Halo (with Bob)"}):
        use = {"title": "Halo", "upc": "00036000291452"} | told
        assert decide(matcher, **use)["method"] != "upc_title"


def test_an_album_decides_among_recordings_of_that_very_name_only():
    near = [
        {"title": "Midnight Flowers", "artist": "Ada", "release_title": "Album"},
        {"title": "Midnight Flowery", "artist": "Ada", "release_title": "Album"},
    ]
    use = {"title": "Midnight Flowerz", "artist": "Ada", "release_title": "Album"}
    assert decide(on_releases(*near), **use)["method"] == "exception"


def test_what_was_rejected_stays_in_suspense_and_says_so():
    subject = decide(Matcher(SONGS), title="Nobody", artist="None")["subject"]
    decided = decide(Matcher(SONGS), title="Nobody", artist="None", rules=[Rule(1, subject, None)])
    assert (decided["method"], decided["reason"]) == ("exception", "rejected_by_rule")
    assert decided["rule_id"] == "rule 1"


def test_a_rule_for_a_recording_that_is_gone_is_a_question():
    rule = Rule(1, "isrc:GBXXX0000001", "GONE")
    decided = decide(Matcher(SONGS), isrc="GBXXX0000001", title="x", rules=[rule])
    assert (decided["method"], decided["reason"]) == ("exception", "rule_names_no_recording")


def test_a_rule_does_not_make_a_right():
    rights = [("R0", "DE", "2020-01-01", "")]
    matcher = Matcher(catalog(("Flowers", "Miley Cyrus"), rights=rights))
    rule = Rule(1, "isrc:GBXXX0000001", "R0")
    refused = decide(matcher, isrc="GBXXX0000001", title="x", territory="US", rules=[rule])
    assert (refused["recording_id"], refused["runner_up_id"]) == (None, "R0")
    assert refused["reason"] == "no_right_at_territory_and_date"
    # What a person could decide anew stays known.
    assert refused["subject"] == "isrc:GBXXX0000001"


def test_every_decision_says_how_near_it_came():
    decided = decide(Matcher(SONGS), title="Flowrs", artist="Miley Cyrus")
    assert decided["levels"] == ("title:similar artist:equal version:agrees number:agrees")


@pytest.mark.parametrize(
    "title",
    [
        "x" * 10_000_000,
        "\u202eevil\u202c",
        "a\u200bb",
        "<script>alert(1)</script>",
        "'; DROP TABLE",
    ],
)
def test_a_hostile_title_is_a_question_like_any_other(title):
    decided = decide(Matcher(SONGS), title=title, artist="y" * 100_000)
    assert decided["method"] == "exception"
    assert len(decided["subject"]) <= 160
