"""What is due when, in which state it is, and whether the cash agrees."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from royalty_assets.domain.calendar import (
    Arrival,
    DeliveryCalendar,
    DeliveryState,
    expected_deliveries,
)
from royalty_assets.domain.money import ATOMS_PER_UNIT
from royalty_assets.domain.remittances import (
    PaymentFigures,
    Remittance,
    cash_received,
    three_way,
)
from royalty_assets.domain.windows import Cadence, Partition

MARCH = Partition.parse(Cadence.MONTHLY, "2025-03-01")
CALENDAR = DeliveryCalendar(due_after_days=10, time_zone="America/Los_Angeles", due_at="18:00")
DUE = datetime(2025, 4, 11, 1, 0, tzinfo=UTC)  # 10 April, 18:00 in Los Angeles, summer time
BEFORE, AFTER = DUE - timedelta(minutes=1), DUE + timedelta(minutes=1)
LONG_AFTER = DUE + timedelta(days=14, minutes=1)


def arrival(name: str = "a.csv", sha256: str = "1") -> Arrival:
    return Arrival(name, sha256, BEFORE)


def state(arrivals, rows, now) -> DeliveryState:
    (line,) = expected_deliveries("dsp", CALENDAR, MARCH, arrivals, rows, now)
    return line.state


def test_a_delivery_is_due_at_the_senders_time_of_day():
    assert CALENDAR.due(MARCH) == DUE
    winter = Partition.parse(Cadence.MONTHLY, "2025-11-01")
    assert CALENDAR.due(winter) == datetime(2025, 12, 11, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arrivals", "rows", "now", "expected"),
    [
        ([], None, BEFORE, "expected"),
        ([], None, DUE, "expected"),
        ([], None, AFTER, "late"),
        ([], None, LONG_AFTER, "missing"),
        ([arrival()], None, LONG_AFTER, "arrived"),
        ([arrival()], 12, BEFORE, "arrived"),
        ([arrival()], 0, AFTER, "valid-empty"),
        ([arrival(), arrival("b.csv", "2")], 12, AFTER, "arrived"),
        ([arrival(), arrival(sha256="2")], 12, AFTER, "re-sent with other bytes"),
    ],
)
def test_the_states_of_a_delivery(arrivals, rows, now, expected):
    assert state(arrivals, rows, now) == expected


def test_each_region_is_a_delivery_of_its_own():
    calendar = DeliveryCalendar(
        due_after_days=10,
        regions=[
            {"name": "Europe", "files": "*_EU_*"},
            {"name": "Americas", "files": "*_AM_*", "due_after_days": 40},
        ],
    )
    lines = expected_deliveries(
        "dsp", calendar, MARCH, [arrival("r_EU_1.csv")], 5, datetime(2025, 5, 1, tzinfo=UTC)
    )
    assert [(line.region, line.state, line.files) for line in lines] == [
        ("Europe", "arrived", 1),
        ("Americas", "expected", 0),
    ]


def test_an_hour_is_due_after_it_has_ended():
    hour = Partition.parse(Cadence.HOURLY, "2025-03-05-10:00")
    due = DeliveryCalendar(due_after_days=0).due(hour)
    assert due == datetime(2025, 3, 5, 23, 59, tzinfo=UTC)


def test_the_same_payment_told_twice_is_received_once():
    received = cash_received([remittance(), remittance()], date(2025, 3, 1))
    assert received == {("dsp", "EUR"): 10 * ATOMS_PER_UNIT}


def test_what_a_bank_cannot_pay_is_no_difference():
    figures = {("dsp", "EUR"): PaymentFigures(27_100_000_000_000_000, None, 30_000_000_000_000_000)}
    assert three_way(figures, {}) == []
    figures = {("dsp", "EUR"): PaymentFigures(4_000_000_000_000_000, None, None)}
    assert three_way(figures, {}) == []


def test_a_time_zone_that_there_is_not_is_refused():
    with pytest.raises(ValidationError, match="Europe/Berlin"):
        DeliveryCalendar(due_after_days=1, time_zone="Berlin")


def remittance(**fields) -> Remittance:
    known = {
        "feed": "dsp",
        "period": "2025-03-01",
        "amount": "10.00",
        "currency": "EUR",
        "received_on": "2025-05-02",
        "reference": "R-1",
    }
    return Remittance.model_validate(known | fields)


def test_cash_is_summed_by_feed_and_currency_of_the_month():
    remittances = [
        remittance(),
        remittance(amount="0.50", reference="R-2"),
        remittance(period="2025-04-01", reference="R-3"),
        remittance(currency="USD", reference="R-4"),
    ]
    received = cash_received(remittances, date(2025, 3, 1))
    assert received == {
        ("dsp", "EUR"): int(Decimal("10.5") * ATOMS_PER_UNIT),
        ("dsp", "USD"): 10 * ATOMS_PER_UNIT,
    }


@pytest.mark.parametrize(
    ("lines", "stated", "cash", "tolerance", "told"),
    [
        (10, 10, 10, 0, []),
        (10, None, 10, 0, []),
        (10, 11, 10, 0, ["the report states 11.00"]),
        (10, 10, None, 0, ["no remittance is recorded"]),
        (0, 0, None, 0, []),
        (10, 10, 9, 0, ["a difference of -1.00"]),
        (10, 10, 9, 1, []),
        (10, 12, 8, 1, ["the report states 12.00", "a difference of -2.00"]),
    ],
)
def test_lines_control_total_and_cash_are_held_against_each_other(
    lines, stated, cash, tolerance, told
):
    def atoms(units):
        return None if units is None else units * ATOMS_PER_UNIT

    figures = {("dsp", "EUR"): PaymentFigures(atoms(lines), atoms(stated), atoms(cash))}
    found = three_way(figures, {"dsp": atoms(tolerance)})
    assert len(found) == len(told)
    assert all(text in finding for text, finding in zip(told, found, strict=True))
