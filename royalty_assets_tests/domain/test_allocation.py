"""Allocation models: the published oracle row by row, and a slow oracle in fractions per model.

The oracles are written from the models' definitions, listener by listener, with none of the code
under test; what they give is rounded by a largest remainder of their own.
"""

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from royalty_assets.domain.allocation import (
    PLAYS_SCHEMA,
    TERM_SCHEMA,
    Allocation,
    ArtistCentric,
    Claim,
    ProRata,
    Shapley,
    StreamThreshold,
    UserCentric,
    fold_terms,
    split_by_fractions,
)

PUBLISHED_PLAYS = [
    ("u1", "A", 90, 40),
    ("u1", "B", 10, 0),
    ("u2", "C", 5, 0),
    ("u3", "A", 300, 0),
    ("u3", "C", 100, 0),
    ("u4", "B", 1, 0),
    ("u4", "C", 1, 0),
    ("u4", "D", 1, 1),
]
"""`industry_formats` §4.3: listener, artist, plays and how many of them are active."""
PUBLISHED_POOL = 2_800
PUBLISHED_ARTIST_CENTRIC = ArtistCentric(plays_cap=100, artist_units_min=50, artist_listeners_min=2)


def artist_of(claim: str) -> str:
    """Claims are named as ``artist`` or ``artist/recording``."""
    return claim.partition("/")[0]


def plays_frame(plays, fees=None) -> pl.DataFrame:
    """(listener, claim, plays, active) rows as plays of one pool."""
    rows = [
        ("pool", listener, claim, artist_of(claim), units, active, (fees or {}).get(listener, 1))
        for listener, claim, units, active in plays
    ]
    return pl.DataFrame(rows, schema=PLAYS_SCHEMA, orient="row")


def claims_of(plays) -> dict[str, Claim]:
    units: dict[str, int] = defaultdict(int)
    for _, claim, number, _ in plays:
        units[claim] += number
    return {claim: Claim(number, number) for claim, number in units.items()}


def allocate(model, pool, plays, fees=None) -> dict[str, int]:
    return model.allocate(pool, claims_of(plays), model.condense(plays_frame(plays, fees)))


def largest_remainder(total: int, exact: dict[str, Fraction]) -> dict[str, int]:
    """The rounding by its definition: floors, then one each to the largest remainders."""
    whole = sum(exact.values())
    shares = {key: abs(total) * part / whole for key, part in exact.items()}
    parts = {key: share.numerator // share.denominator for key, share in shares.items()}
    order = sorted(parts, key=lambda key: (parts[key] - shares[key], key))
    for key in order[: abs(total) - sum(parts.values())]:
        parts[key] += 1
    return {key: part if total >= 0 else -part for key, part in parts.items()}


# The models by their definitions: plays[listener][claim] is (plays, active plays).


def user_centric_by_hand(plays, fees):
    due = defaultdict(Fraction)
    for listener, played in plays.items():
        total = sum(units for units, _ in played.values())
        for claim, (units, _) in played.items():
            due[claim] += Fraction(fees[listener] * units, total)
    return due


def shapley_by_hand(plays, fees):
    due = defaultdict(Fraction)
    for listener, played in plays.items():
        artists = {artist_of(claim) for claim in played}
        for artist in artists:
            own = {c: units for c, (units, _) in played.items() if artist_of(c) == artist}
            for claim, units in own.items():
                part = Fraction(units, sum(own.values()))
                due[claim] += Fraction(fees[listener], len(artists)) * part
    return due


def artist_centric_by_hand(model, plays):
    counted = defaultdict(Fraction)
    active = defaultdict(Fraction)
    listeners = defaultdict(set)
    for listener, played in plays.items():
        total = sum(units for units, _ in played.values())
        fraction = Fraction(1)
        if model.plays_cap is not None and total > model.plays_cap:
            counts = Fraction(model.plays_cap)
            if model.cap_rule == "half_beyond":
                counts += Fraction(total - model.plays_cap, 2)
            fraction = counts / total
        for claim, (units, active_units) in played.items():
            counted[claim] += fraction * units
            active[claim] += fraction * active_units
            listeners[artist_of(claim)].add(listener)
    artist_plays = defaultdict(Fraction)
    for claim, units in counted.items():
        artist_plays[artist_of(claim)] += units
    due = {}
    for claim, units in counted.items():
        artist = artist_of(claim)
        weight = units + active[claim] * (Fraction(model.active_multiplier) - 1)
        if (
            artist_plays[artist] >= model.artist_units_min
            and len(listeners[artist]) >= model.artist_listeners_min
        ):
            weight *= Fraction(model.artist_multiplier)
        due[claim] = weight
    return due


def threshold_by_hand(model, plays):
    units = defaultdict(int)
    for played in plays.values():
        for claim, (number, _) in played.items():
            units[claim] += number
    enough = {claim for claim, number in units.items() if number >= model.units_min} or set(units)
    return {claim: Fraction(number if claim in enough else 0) for claim, number in units.items()}


def by_hand(model, pool, rows, fees=None) -> dict[str, int]:
    plays = defaultdict(lambda: defaultdict(lambda: (0, 0)))
    for listener, claim, units, active in rows:
        if units:
            before = plays[listener][claim]
            plays[listener][claim] = (before[0] + units, before[1] + active)
    fees = fees or dict.fromkeys(plays, 1)
    match model:
        case UserCentric():
            exact = user_centric_by_hand(plays, fees)
        case Shapley():
            exact = shapley_by_hand(plays, fees)
        case ArtistCentric():
            exact = artist_centric_by_hand(model, plays)
        case StreamThreshold():
            exact = threshold_by_hand(model, plays)
        case _:
            exact = threshold_by_hand(StreamThreshold(units_min=0), plays)
    return largest_remainder(pool, {row[1]: Fraction(0) for row in rows} | dict(exact))


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (ProRata(), {"A": 2150, "B": 61, "C": 584, "D": 5}),
        (UserCentric(), {"A": 1155, "B": 304, "C": 1108, "D": 233}),
        (Shapley(), {"A": 700, "B": 584, "C": 1283, "D": 233}),
        (StreamThreshold(units_min=50), {"A": 2202, "B": 0, "C": 598, "D": 0}),
        (PUBLISHED_ARTIST_CENTRIC, {"A": 2529, "B": 68, "C": 191, "D": 12}),
    ],
    ids=lambda value: getattr(value, "model", ""),
)
def test_every_row_of_the_published_oracle(model, published):
    assert allocate(model, PUBLISHED_POOL, PUBLISHED_PLAYS) == published
    assert by_hand(model, PUBLISHED_POOL, PUBLISHED_PLAYS) == published


def test_fees_that_are_known_are_what_listeners_bring():
    """The row again with fees of 700 cents each, and with one listener who pays for all."""
    fees = {"u1": 700, "u2": 700, "u3": 700, "u4": 700}
    published = {"A": 1155, "B": 304, "C": 1108, "D": 233}
    assert allocate(UserCentric(), PUBLISHED_POOL, PUBLISHED_PLAYS, fees) == published
    only_u2 = {"u1": 0, "u2": 9, "u3": 0, "u4": 0}
    alone = {"A": 0, "B": 0, "C": 2800, "D": 0}
    assert allocate(UserCentric(), PUBLISHED_POOL, PUBLISHED_PLAYS, only_u2) == alone


def half_up(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def test_the_exact_row_and_what_rounding_each_part_would_pay():
    """User-centric before rounding; half up pays 2801 pro rata, and 2799 user-centric."""
    plays = defaultdict(dict)
    for listener, claim, units, active in PUBLISHED_PLAYS:
        plays[listener][claim] = (units, active)
    exact = user_centric_by_hand(plays, dict.fromkeys(plays, 700))
    assert exact == {
        "A": 1155,
        "B": Fraction(910, 3),
        "C": Fraction(3325, 3),
        "D": Fraction(700, 3),
    }
    assert {key: half_up(value) for key, value in exact.items()} == {
        "A": 1155,
        "B": 303,
        "C": 1108,
        "D": 233,
    }
    assert sum(map(half_up, exact.values())) == 2799
    units = {claim: each.units for claim, each in claims_of(PUBLISHED_PLAYS).items()}
    naive = {key: half_up(Fraction(2800 * n, sum(units.values()))) for key, n in units.items()}
    assert naive == {"A": 2150, "B": 61, "C": 584, "D": 6}
    assert sum(naive.values()) == 2801


def test_the_weights_of_the_artist_centric_row():
    """410 / 11 / 31 / 2, as the source states them."""
    plays = defaultdict(dict)
    for listener, claim, units, active in PUBLISHED_PLAYS:
        plays[listener][claim] = (units, active)
    weights = artist_centric_by_hand(PUBLISHED_ARTIST_CENTRIC, plays)
    assert weights == {"A": 410, "B": 11, "C": 31, "D": 2}


def test_half_of_what_is_beyond_the_cap_may_count():
    """u1 plays 20 with a cap of 10: 15 count, of which A has half; u2's 5 all do."""
    model = ArtistCentric(plays_cap=10, cap_rule="half_beyond", artist_listeners_min=9)
    plays = [("u1", "A", 10, 0), ("u1", "B", 10, 0), ("u2", "C", 5, 0)]
    assert allocate(model, 200, plays) == {"A": 75, "B": 75, "C": 50}


def test_a_listener_of_two_recordings_is_one_listener_of_their_artist():
    """A is heard by u1 alone, B by two: only B is boosted, and has 20 · 2 of 60."""
    model = ArtistCentric(artist_units_min=0, artist_listeners_min=2)
    plays = [("u1", "A/1", 10, 0), ("u1", "A/2", 10, 0), ("u1", "B", 10, 0), ("u2", "B", 10, 0)]
    assert allocate(model, 60, plays) == {"A/1": 10, "A/2": 10, "B": 40}


listened = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3", "u4", "u5"]),
        st.sampled_from(["A/1", "A/2", "B/1", "B/2", "C", "\tambiguous"]),
        st.integers(0, 40),
        st.integers(0, 40),
    ).map(lambda row: (*row[:3], min(row[2], row[3]))),
    min_size=1,
    max_size=25,
)
of_each_model = {
    "pro_rata": st.just(ProRata()),
    "user_centric": st.just(UserCentric()),
    "shapley": st.just(Shapley()),
    "stream_threshold": st.builds(StreamThreshold, units_min=st.integers(0, 80)),
    "artist_centric": st.builds(
        ArtistCentric,
        plays_cap=st.none() | st.integers(1, 60),
        cap_rule=st.sampled_from(["scaled", "half_beyond"]),
        artist_units_min=st.integers(0, 60),
        artist_listeners_min=st.integers(0, 4),
        artist_multiplier=st.sampled_from([Decimal(m) for m in ["1", "1.5", "2", "3.25"]]),
        active_multiplier=st.sampled_from([Decimal(m) for m in ["1", "1.1", "2"]]),
    ),
}
models = st.one_of(*of_each_model.values())
pools = st.integers(-(10**22), 10**22) | st.integers(-50, 50)
all_fees = st.fixed_dictionaries({f"u{i}": st.integers(1, 2_000) for i in range(1, 6)})


def has_units(plays) -> bool:
    return any(units for _, _, units, _ in plays)


@pytest.mark.parametrize("name", of_each_model)
@given(st.data(), pools, listened)
def test_every_model_is_its_definition_in_fractions_and_gives_the_whole_pool(
    name, data, pool, plays
):
    assume(has_units(plays))
    model = data.draw(of_each_model[name])
    parts = allocate(model, pool, plays)
    assert sum(parts.values()) == pool
    assert parts == by_hand(model, pool, plays)


@given(st.sampled_from([UserCentric(), Shapley()]), pools, listened, all_fees)
def test_known_fees_are_shared_by_definition(model, pool, plays, fees):
    assume(has_units(plays))
    assert allocate(model, pool, plays, fees) == by_hand(model, pool, plays, fees)


@given(models, pools, listened, st.randoms(use_true_random=False), st.integers(1, 4))
def test_neither_order_nor_cut_of_the_plays_changes_anything(model, pool, plays, random, size):
    """Rows are shuffled and split in two, and listeners dealt to parts."""
    assume(has_units(plays))
    expected = allocate(model, pool, plays)
    rows = []
    for listener, claim, units, active in plays:
        first, first_active = random.randint(0, units), random.randint(0, active)
        rows += [(listener, claim, first, first_active)]
        rows += [(listener, claim, units - first, active - first_active)]
    random.shuffle(rows)
    parts = [[row for row in rows if int(row[0][1:]) % size == n] for n in range(size)]
    terms = fold_terms(model.condense(plays_frame(part)) for part in parts)
    claims = claims_of(rows)
    assert model.allocate(pool, claims, terms) == expected


@given(
    pools,
    st.dictionaries(st.sampled_from("ABCDE"), st.integers(0, 30), min_size=1),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
)
def test_where_everyone_listens_alike_user_centric_is_pro_rata(pool, taste, intensities):
    """Alike in proportion: some play all of it several times over."""
    assume(any(taste.values()))
    plays = [
        (f"u{number}", claim, units, 0)
        for number in range(len(intensities))
        for claim, units in taste.items()
    ]
    assert allocate(UserCentric(), pool, plays) == allocate(ProRata(), pool, plays)
    plays = [
        (f"u{number}", claim, units * times, 0)
        for number, times in enumerate(intensities)
        for claim, units in taste.items()
    ]
    assert allocate(UserCentric(), pool, plays) == allocate(ProRata(), pool, plays)


@given(pools, listened)
def test_without_cap_and_boost_artist_centric_is_pro_rata(pool, plays):
    assume(has_units(plays))
    plain = ArtistCentric(plays_cap=None, artist_multiplier=1, active_multiplier=1)
    assert allocate(plain, pool, plays) == allocate(ProRata(), pool, plays)


def test_usage_in_suspense_takes_part_as_a_claim_of_its_own():
    """Two listeners of one plays half of it unmatched: half of that fee waits."""
    plays = [("u1", "A", 1, 0), ("u1", "\tambiguous", 1, 0), ("u2", "A", 7, 0)]
    assert allocate(UserCentric(), 400, plays) == {"A": 300, "\tambiguous": 100}


def test_a_threshold_that_nobody_reaches_leaves_the_money_with_all():
    plays = [("u1", "A", 3, 0), ("u1", "B", 1, 0)]
    assert allocate(StreamThreshold(units_min=50), 100, plays) == {"A": 75, "B": 25}


def test_a_threshold_counts_a_recording_and_not_its_claims():
    """30 premium and 30 student plays, or 10 in another pool, are of one recording."""
    claims = {
        "premium A": Claim(30, 60),
        "student A": Claim(30, 60),
        "premium B": Claim(40, 40),
        "premium C": Claim(40, 50),
    }
    parts = StreamThreshold(units_min=50).allocate(100, claims, pl.DataFrame(schema=TERM_SCHEMA))
    assert parts == {"premium A": 30, "student A": 30, "premium B": 0, "premium C": 40}


def test_caps_and_boosts_count_a_listener_and_an_artist_over_all_pools():
    """u1's 12 plays count as 8; A has 4 of them and u2's 4 elsewhere: 8 plays, 2 listeners."""
    rows = [
        ("here", "u1", "A", "A", 6, 0, 1),
        ("here", "u3", "C", "C", 8, 0, 1),
        ("there", "u1", "B", "B", 6, 0, 1),
        ("there", "u2", "A", "A", 4, 0, 1),
    ]
    model = ArtistCentric(plays_cap=8, artist_units_min=8, artist_listeners_min=2)
    terms = model.condense(pl.DataFrame(rows, schema=PLAYS_SCHEMA, orient="row"))
    in_pool = {pool: terms.filter(pl.col("pool").eq_missing(pool)) for pool in ("here", None)}
    claims = {"A": Claim(6), "C": Claim(8)}
    assert model.allocate(160, claims, pl.concat(in_pool.values())) == {"A": 80, "C": 80}


@pytest.mark.parametrize("model", [UserCentric(), Shapley(), ArtistCentric()])
def test_plays_that_claims_do_not_agree_with_are_refused(model):
    terms = model.condense(plays_frame([("u1", "A", 3, 0)]))
    for claims in ({"A": Claim(4)}, {"A": Claim(3), "B": Claim(1)}, {}):
        with pytest.raises(ValueError, match="units, but"):
            model.allocate(100, claims, terms)


def test_a_listener_pays_one_fee():
    rows = [("p", "u1", "A", "A", 1, 0, 700), ("p", "u1", "B", "B", 1, 0, 900)]
    with pytest.raises(ValueError, match="'u1' has two fees"):
        UserCentric().condense(pl.DataFrame(rows, schema=PLAYS_SCHEMA, orient="row"))


def test_remainders_that_differ_only_far_behind_the_point_are_in_order():
    """All remainders are a third in their first 999 bits; the largest get the units."""
    tiny = 2**1_000
    weights = {"a": {3: 1, tiny: -1}, "b": {3: 1}, "c": {3: 1, tiny: 1}}
    assert split_by_fractions(1, weights) == {"a": 0, "b": 0, "c": 1}
    assert split_by_fractions(2, weights) == {"a": 0, "b": 1, "c": 1}
    assert split_by_fractions(1, {"a": {2: 1}, "b": {2: 1}}) == {"a": 1, "b": 0}
    assert split_by_fractions(-1, {"b": {2: 1}, "a": {2: 1}}) == {"a": -1, "b": 0}


@pytest.mark.parametrize("weights", [{}, {"a": {}}, {"a": {3: 0}}, {"a": {1: 2}, "b": {1: -1}}])
def test_what_cannot_be_divided_is_refused(weights):
    with pytest.raises(ValueError, match="negative"):
        split_by_fractions(100, weights)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"model": "per_stream"}, "'pro_rata', 'user_centric'"),
        ({"units_min": 5}, "say which model"),
        ({"model": "user_centric", "cap": 5}, "Extra inputs"),
        ({"model": "artist_centric", "plays_cap": 0}, "greater than or equal to 1"),
        ({"model": "artist_centric", "artist_multiplier": "0.5"}, "greater than or equal to 1"),
    ],
)
def test_a_model_that_cannot_be_is_refused_in_words(written, told):
    with pytest.raises(ValidationError, match=told):
        TypeAdapter(Allocation).validate_python(written)


def test_a_models_name_is_enough():
    assert TypeAdapter(Allocation).validate_python("user_centric") == UserCentric()
