"""What stands on the PDF are the statement's figures, whatever names and amounts it has."""

import re
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal

import polars as pl
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from royalty_assets.domain.money import format_atoms, from_atoms, minor_unit_decimals
from royalty_assets.domain.money_columns import series_to_atoms
from royalty_assets.domain.statements import Movement, movement_atoms
from royalty_assets.domain.territories import territory_codes
from royalty_assets.statements.pdf import statement_pdf
from royalty_assets.statements.pdf.document import LINES_SHOWN_MAX
from royalty_assets.statements.pdf.figures import (
    largest,
    largest_lines,
    paid_atoms,
    rounded,
    slices,
    walk,
)
from royalty_assets.statements.pdf.typeface import (
    MEDIUM,
    REGULAR,
    fitting_size,
    legible,
    load_typeface,
    width_of,
    wrapped,
)
from royalty_assets_tests.statements.samples import (
    UNIT,
    SampleLine,
    sample_lines,
    sample_statement,
    statement_of,
)

LONG = "An Extraordinarily Long Title (Live at the Somewhere Festival, Second Night) " * 3


def pages_of(content):
    document = pypdfium2.PdfDocument(content)
    try:
        texts = []
        for page in document:
            reader = page.get_textpage()
            texts.append(" ".join(reader.get_text_range().replace("−", "-").split()))
            reader.close()
            page.close()
        return texts
    finally:
        document.close()


def in_cents(atoms, currency):
    """The slow way to what is printed: Python's own decimals, rounded by its own rule."""
    places = Decimal(1).scaleb(-minor_unit_decimals(currency))
    value = from_atoms(atoms).quantize(places, ROUND_HALF_EVEN)
    return f"{abs(value) if value == 0 else value:,}"


def test_page_one_says_who_what_when_and_how_much():
    statement = sample_statement()
    page = pages_of(statement_pdf(statement, issued_by="Quiet Harbour Records"))[0]
    for told in (
        "ROYALTY STATEMENT", "March 2025", "Lindqvist Musik GbR", "2025-03/P-0007/EUR",
        "Issued by Quiet Harbour Records", "Paid for March 2025", "By service", "By territory",
        "Top recordings", "Page 1 of",
    ):  # fmt: skip
        assert told in page
    paid = movement_atoms(statement, Movement.PAID)
    assert in_cents(-paid, "EUR") in page
    assert f"Paid, EUR {in_cents(-paid, 'EUR')}" in page


@pytest.mark.parametrize("currency", ["EUR", "JPY", "KWD"])
def test_every_movement_is_on_page_one_in_the_currencys_own_decimals(currency):
    statement = statement_of(
        sample_lines(200), currency=currency, brought_forward=UNIT * 25 // 2, advance=900 * UNIT
    )
    page = pages_of(statement_pdf(statement))[0]
    for movement, atoms in zip(
        statement.movements["movement"], series_to_atoms(statement.movements["amount"]), strict=True
    ):
        if movement == "rounding":  # less than a cent: with four decimals more
            decimals = minor_unit_decimals(currency) + 4
            assert rounded(atoms, decimals).replace("−", "-") in page.replace(" ", "")
        elif movement == "paid":
            assert in_cents(-atoms, currency) in page
        else:
            assert in_cents(atoms, currency) in page


def test_movements_are_told_to_the_last_decimal_with_their_explanations():
    statement = sample_statement()
    text = " ".join(pages_of(statement_pdf(statement)))
    assert "How these figures were computed" in text
    for explanation, movement, atoms in zip(
        statement.movements["explanation"],
        statement.movements["movement"],
        series_to_atoms(statement.movements["amount"]),
        strict=True,
    ):
        assert explanation in text
        exact = format_atoms(abs(atoms)).partition(".")[2]
        assert exact in text, movement


def test_a_line_is_worked_through_by_its_fraction():
    statement = sample_statement()
    text = " ".join(pages_of(statement_pdf(statement)))
    converted = statement.lines.filter(pl.col("rate") != "")
    (line,) = largest_lines(converted, 1).to_dicts()
    worked = text[text.index("One line worked through") :]
    assert f"Line {line['line_number']}, " in worked
    assert f"times {line['share_numerator']}/{line['share_denominator']}" in worked
    assert f"times {line['rate']} EUR for 1 {line['currency']}, cut to 18 decimals" in worked
    for name in ("receipts", "amount", "payee_amount"):
        assert f"{line[name].normalize():f}" in worked.replace(",", "")


def test_recoupment_reserves_and_adjustments_are_told():
    statement = sample_statement()
    text = " ".join(pages_of(statement_pdf(statement)))
    for table, columns in (
        (statement.recoupment, ("opening", "charged", "recouped", "closing")),
        (statement.reserves, ("amount",)),
    ):
        for column in columns:
            for atoms in series_to_atoms(table[column]):
                assert in_cents(atoms, "EUR") in text
    assert "October 2024" in text
    assert "August 2025" in text
    corrections = text[text.index("Adjustments") : text.index("Lines Each")]
    for line in statement.lines.filter(pl.col("corrects") != "").to_dicts():
        assert re.search(
            rf"\b{line['line_number']} {re.escape(legible(line['title']))}", corrections
        )


def test_every_line_is_in_the_table_and_the_sum_is_theirs():
    statement = sample_statement(120)
    text = " ".join(pages_of(statement_pdf(statement)))
    table = text[text.index("Lines Each line") :]
    for number, title in statement.lines.select("line_number", "title").iter_rows():
        assert f"{number} {legible(title)[:20]}" in table
    total = rounded(sum(series_to_atoms(statement.lines["payee_amount"])), 6)
    assert total in table
    assert table.count("Service, territory") > 1  # the head is repeated


def test_of_many_lines_the_largest_are_shown_and_all_are_summed():
    statement = statement_of(sample_lines(5_000))
    pages = pages_of(statement_pdf(statement))
    text = " ".join(pages)
    assert f"the {LINES_SHOWN_MAX} largest of 5,000 lines; the CSV has all of them" in text
    by_size = sorted(series_to_atoms(statement.lines["payee_amount"]), key=abs)
    others = rounded(sum(by_size[:-LINES_SHOWN_MAX]), 6)
    assert re.search(rf"4,500 other lines [\d,]+ {others}", text)
    total = rounded(sum(by_size), 6)
    assert f"Sum of all lines {int(statement.lines['units'].sum()):,} {total}" in text
    for number, page in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in page


def test_the_same_statement_is_the_same_bytes_whatever_the_environment(monkeypatch):
    statement = sample_statement()
    content = statement_pdf(statement, issued_by="X")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert statement_pdf(statement, issued_by="X") == content
    assert b"D:20250401000000Z" in content
    assert statement_pdf(replace(statement, payee_name="Y"), issued_by="X") != content


def test_nothing_earned_and_a_debt_is_a_statement_too():
    statement = statement_of([], brought_forward=-123 * UNIT)
    text = " ".join(pages_of(statement_pdf(statement)))
    assert "Nothing was earned in this period." in text
    assert "Less than nothing is due; it is set against the next period." in text
    assert "-123.00" in text


def test_a_movement_of_less_than_a_cent_is_not_shown_as_nothing():
    line = SampleLine("s", "DE", "EUR", ("R", "", "T", "A"), 1, 2 * UNIT + UNIT // 250)
    page = pages_of(statement_pdf(statement_of([line], reserves=False)))[0]
    assert "Rounding-0.002000" in page.replace(" ", "")


def test_forty_territories_are_told_as_the_largest_and_the_others():
    codes = sorted(territory_codes())[:40]
    lines = [
        SampleLine("s", code, "EUR", ("R", "", LONG, LONG), 9, (at + 1) * UNIT)
        for at, code in enumerate(codes)
    ]
    page = pages_of(statement_pdf(statement_of(lines)))[0]
    assert "33 other territories" in page
    shown = largest(slices(statement_of(lines), "territory"), 8, "other territories")
    assert sum(part.atoms for part in shown) == sum((at + 1) * UNIT // 2 for at in range(40))


def test_names_in_other_scripts_are_transliterated_in_brackets():
    assert legible("Zażółć Ελαφρύ Белый Ңёњ Việt") == "Zażółć Ελαφρύ Белый Ңёњ Việt"
    assert legible("שלום חבר (Live)") == "[slvm hvr] (Live)"
    assert legible("大阪 Love 東京") == "[DaBan] Love [DongJing]"
    assert legible("a\u202eb\tc\n d\x00") == "ab c d"
    recording = ("R", "", "שלום", "فيروز")
    text = pages_of(statement_pdf(statement_of([SampleLine("s", "IL", "EUR", recording, 1, UNIT)])))
    assert "[slvm] [fyrwz]" in text[0]


def test_sums_of_services_and_the_walk_are_those_of_the_statement():
    statement = sample_statement(300)
    earned = movement_atoms(statement, Movement.EARNINGS, Movement.ADJUSTMENT)
    for columns in (("feed",), ("territory",), ("recording_id", "title")):
        parts = slices(statement, *columns)
        assert sum(part.atoms for part in parts) == earned
        assert sum(part.atoms for part in largest(parts, 3, "others")) == earned
        assert [p.atoms for p in parts] == sorted((p.atoms for p in parts), reverse=True)
    assert sum(step.atoms for step in walk(statement, 12)) == paid_atoms(statement)
    assert sum(step.atoms for step in walk(statement, 2)) == paid_atoms(statement)
    assert len(walk(statement, 2)) < len(walk(statement, 12))


@given(st.integers(-(10**38), 10**38), st.sampled_from(["EUR", "JPY", "KWD", "CLF"]))
def test_amounts_are_rounded_half_to_even(atoms, currency):
    written = rounded(atoms, minor_unit_decimals(currency)).replace("−", "-")
    whole, fraction = divmod(abs(atoms), 10 ** (18 - minor_unit_decimals(currency)))
    step = 10 ** (18 - minor_unit_decimals(currency))
    if fraction * 2 > step or (fraction * 2 == step and whole % 2):
        whole += 1
    assert int(re.sub(r"[^0-9]", "", written)) == whole
    assert written.startswith("-") == (atoms < 0 and whole > 0)


@pytest.mark.parametrize(
    ("atoms", "text"), [(25 * 10**15, "0.02"), (35 * 10**15, "0.04"), (-5 * 10**15, "0.00")]
)
def test_halves_go_to_the_even_neighbour(atoms, text):
    assert rounded(atoms, 2) == text


@given(st.text(max_size=120), st.floats(20, 200), st.integers(1, 4))
def test_wrapped_lines_are_never_wider_than_their_column(text, width, lines_max):
    plain = legible(text)
    lines = wrapped(plain, REGULAR, 9, width, lines_max)
    assert 1 <= len(lines) <= lines_max
    assert all(width_of(line, REGULAR, 9) <= width + 1e-6 for line in lines)
    if not lines[-1].endswith("…"):
        assert "".join(lines).replace(" ", "") == plain.replace(" ", "")
    assert width_of(plain, MEDIUM, fitting_size(plain, MEDIUM, 9, width)) <= width + 1e-6
    assert load_typeface().issuperset(plain)
    assert legible(plain) == plain


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=60),
            st.text(max_size=60),
            st.integers(-(10**12), 10**12),
            st.integers(-(10**30), 10**30),
        ),
        max_size=8,
    ),
    st.text(max_size=80),
    st.sampled_from(["EUR", "JPY", "KWD"]),
    st.integers(-(10**24), 10**24),
)
def test_any_names_and_amounts_make_a_statement_with_the_figure_that_is_paid(
    rows, name, currency, brought_forward
):
    lines = [
        SampleLine(f"feed{at % 3}", "DE", currency, (f"R-{at}", "", title, artist), units, receipts)
        for at, (title, artist, units, receipts) in enumerate(rows)
    ]
    statement = statement_of(
        lines, currency=currency, payee_name=name, brought_forward=brought_forward
    )
    pages = pages_of(statement_pdf(statement))
    assert in_cents(paid_atoms(statement), currency) in pages[0]
    assert f"Page {len(pages)} of {len(pages)}" in pages[-1]
