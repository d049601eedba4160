"""The batch boundary: every record comes out once, with its reason if it is refused."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.usage import RecordKind
from royalty_assets.domain.validation import (
    SourceRow,
    ValidatedRows,
    deduplicate,
    usage_lines,
    validate_rows,
)
from royalty_assets.domain.windows import Cadence, Partition

HOUR = Partition.parse(Cadence.HOURLY, "2025-03-01-05:00").window
EVENT = {
    "event_id": "e1",
    "played_at": "2025-03-01T05:03:00Z",
    "user_id": "u1",
    "isrc": "us-um7-06-00055",
    "title": "Title",
    "artist": "Artist",
    "territory": "de",
    "tier": "premium",
    "played_ms": 31_000,
}
SHA = "a" * 64


def validated(*events, kind=RecordKind.PLAY_EVENTS) -> ValidatedRows:
    rows = [
        SourceRow(SHA, number, event if isinstance(event, bytes) else json.dumps(event).encode())
        for number, event in enumerate(events, start=1)
    ]
    return validate_rows(kind, rows, HOUR)


def test_a_play_becomes_a_canonical_usage_line():
    (line,) = usage_lines(validated(EVENT)).to_dicts()
    assert line["event_id"] == "e1"
    assert line["used_at"].isoformat() == "2025-03-01T05:03:00+00:00"
    assert line["isrc"] == "USUM70600055"
    assert line["territory"] == "DE"
    assert line["use_type"] == "OnDemandStream"
    assert line["units"] == 1
    assert line["amount"] is None
    assert (line["source_sha256"], line["row_number"]) == (SHA, 1)


@pytest.mark.parametrize(
    ("change", "rule", "value"),
    [
        ({"territory": "QQ"}, "territory:territory_unknown", "QQ"),
        ({"played_at": "2025-03-01T05:03:00"}, "played_at:timezone_aware", "2025-03-01T05:03:00"),
        ({"played_at": 1740805380}, "played_at:instant_type", "1740805380"),
        ({"played_at": "2025-03-01T06:00:00Z"}, "used_at:outside_partition", "2025-03-01T06:00:00"),
        ({"played_at": "0001-01-01T00:00:00+14:00"}, "played_at:instant", "0001-01-01"),
        ({"title": "a\x00b"}, "title:string_pattern_mismatch", "a"),
        ({"played_ms": "31000"}, "played_ms:int_type", "31000"),
        ({"played_ms": -1}, "played_ms:greater_than_equal", "-1"),
        ({"tier": "Premium Plus"}, "tier:string_pattern_mismatch", "Premium Plus"),
        ({"user_id": None}, "user_id:string_type", "None"),
        ({"title": "x" * 1001}, "title:string_too_long", "xxx"),
        ({"isrc": "", "title": ""}, "record:unidentified", ""),
    ],
)
def test_a_refused_record_is_told_with_row_rule_value_and_reason(change, rule, value):
    result = validated(EVENT, EVENT | change)
    assert len(result.accepted) == 1
    (rejection,) = result.rejections
    assert (rejection.source_sha256, rejection.row_number) == (SHA, 2)
    assert rejection.rule == rule
    assert value in rejection.value
    assert rejection.reason
    assert "event_id" in rejection.content


def test_a_missing_field_and_broken_json_are_rejections_too():
    without = {name: value for name, value in EVENT.items() if name != "event_id"}
    result = validated(without, b'{"event_id": "e', b"", b"[]", b"\xff\xfe")
    assert [rejection.rule for rejection in result.rejections] == [
        "event_id:missing",
        "record:json_invalid",
        "record:json_invalid",
        "record:model_type",
        "record:json_invalid",
    ]


def test_half_a_surrogate_pair_is_a_rejection_that_can_be_stored():
    row = SourceRow(SHA, 1, EVENT | {"title": "\ud800"})
    (rejection,) = validate_rows(RecordKind.PLAY_EVENTS, [row], HOUR).rejections
    assert rejection.rule == "title:string_unicode"
    assert rejection.content.encode()


def test_a_report_line_keeps_its_money_exactly():
    row = {"used_on": "2025-03-01", "isrc": "USUM70600055", "territory": "DE", "units": 3}
    row |= {"amount": "0.012345678901234567", "currency": "EUR"}
    month = Partition.parse(Cadence.MONTHLY, "2025-03-01").window
    result = validate_rows(RecordKind.REPORT_LINES, [SourceRow(SHA, 7, row)], month)
    (line,) = usage_lines(result).to_dicts()
    assert str(line["amount"]) == "0.012345678901234567"
    assert (line["source_sha256"], line["row_number"]) == (SHA, 7)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"amount": 0.1}, "amount:amount_type"),
        ({"amount": "0.1"}, "record:money_incomplete"),
        ({"amount": "0.1", "currency": "QQQ"}, "currency:currency_unknown"),
        ({"amount": "NaN", "currency": "EUR"}, "amount:amount"),
        ({"amount": "1E+13", "currency": "EUR"}, "amount:amount_too_large"),
        ({"amount": "1", "currency": "XXX"}, "currency:currency_unknown"),
        ({"units": "many"}, "units:int_type"),
        ({"used_on": "01.03.2025"}, "used_on:date"),
    ],
)
def test_a_report_line_with_doubtful_money_is_refused(change, rule):
    row = {"used_on": "2025-03-01", "isrc": "USUM70600055", "territory": "DE", "units": 3}
    month = Partition.parse(Cadence.MONTHLY, "2025-03-01").window
    result = validate_rows(RecordKind.REPORT_LINES, [SourceRow(SHA, 1, row | change)], month)
    assert [rejection.rule for rejection in result.rejections] == [rule]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
spoilt_events = st.builds(
    lambda changes, missing: {k: v for k, v in (EVENT | changes).items() if k not in missing},
    st.dictionaries(st.sampled_from(sorted(EVENT)), json_values, max_size=3),
    st.sets(st.sampled_from(sorted(EVENT)), max_size=1),
)


@given(st.lists(spoilt_events, max_size=20))
def test_every_record_comes_out_exactly_once(events):
    """Invariants 1 and 3: accepted + rejected = received, each rejection with its reason."""
    result = validated(*events)
    numbers = [number for _, number in result.origins]
    numbers += [rejection.row_number for rejection in result.rejections]
    assert sorted(numbers) == list(range(1, len(events) + 1))
    assert all(rejection.rule and rejection.reason for rejection in result.rejections)


@given(st.lists(spoilt_events, max_size=12))
def test_text_and_values_are_judged_alike(events):
    """Page events come as values, file events as text; a model must not tell them apart."""
    as_text = validated(*events)
    rows = [SourceRow(SHA, number, event) for number, event in enumerate(events, start=1)]
    as_values = validate_rows(RecordKind.PLAY_EVENTS, rows, HOUR)
    assert as_values.accepted == as_text.accepted
    assert as_values.origins == as_text.origins


deliveries = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.sampled_from(["T", "U"])), max_size=15
)


@given(deliveries, st.randoms(use_true_random=False))
def test_an_event_is_kept_once_in_any_order_of_delivery(copies, random):
    """Invariant 2, against the obvious: the smallest distinct content of each event id."""
    start = HOUR.start

    def lines(rows):
        events = [
            EVENT
            | {
                "event_id": event_id,
                "played_at": (start + timedelta(seconds=second)).isoformat(),
                "title": title,
            }
            for event_id, second, title in rows
        ]
        return usage_lines(validated(*events))

    told = ["event_id", "used_at", "title"]
    result = deduplicate(lines(copies))
    by_id = {}
    for event_id, second, title in sorted(set(copies), key=lambda c: (c[0], c[1], c[2])):
        by_id.setdefault(event_id, (second, title))
    kept = {
        (e, int((u - start).total_seconds()), t) for e, u, t in result.lines.select(told).rows()
    }
    assert kept == {(event_id, *content) for event_id, content in by_id.items()}
    assert result.conflicting.height == len(set(copies)) - len(by_id)
    assert result.lines.height + result.conflicting.height + result.repeated == len(copies)
    shuffled = list(copies)
    random.shuffle(shuffled)
    assert deduplicate(lines(shuffled)).lines.select(told).equals(result.lines.select(told))
