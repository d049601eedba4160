"""Windows tile partitions, partitions tile time, and keys are Dagster's."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.windows import Cadence, Partition, Window, partitions_between

INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(INSTANTS, st.sampled_from(Cadence), st.integers(1, 60))
def test_an_instant_belongs_to_exactly_one_window_of_one_partition(instant, cadence, minutes):
    partition = Partition.of(cadence, instant)
    assert instant in partition.window
    windows = partition.windows(timedelta(minutes=minutes))
    assert sum(instant in window for window in windows) == 1
    assert windows[0].start == partition.window.start
    assert windows[-1].end == partition.window.end
    for before, after in pairwise(windows):
        assert before.end == after.start


@given(INSTANTS, st.sampled_from(Cadence))
def test_a_key_names_its_partition(instant, cadence):
    partition = Partition.of(cadence, instant)
    assert Partition.parse(cadence, partition.key) == partition


@pytest.mark.parametrize("key", ["2025-03-01-05:30", "2025-03-01", "March"])
def test_a_key_of_another_cadence_is_refused(key):
    with pytest.raises(ValueError, match="."):
        Partition.parse(Cadence.HOURLY, key)


def test_a_month_has_all_of_its_hours():
    march = Partition.parse(Cadence.MONTHLY, "2025-03-01").window
    hours = list(partitions_between(Cadence.HOURLY, march.start, march.end))
    assert len(hours) == 744
    assert hours[0].key == "2025-03-01-00:00"
    assert hours[-1].key == "2025-03-31-23:00"
    assert {hour.month.key for hour in hours} == {"2025-03-01"}


def test_a_window_needs_a_zone_and_a_length():
    with pytest.raises(ValueError, match="time zone"):
        Window(datetime(2025, 1, 1), datetime(2025, 1, 2))
    with pytest.raises(ValueError, match="empty"):
        Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
