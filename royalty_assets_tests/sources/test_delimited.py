"""Report files: recognised by their columns, read line by line, each line accounted for."""

import csv
import gzip
import io
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.domain.money import from_atoms
from royalty_assets.domain.validation import Rejection, SourceRow
from royalty_assets.sources.delimited import DelimitedFile
from royalty_assets.sources.templates import bundled_templates
from royalty_assets.sources.text_lines import TextLines, UnreadableFileError

REPORT = "Date,Territory,ISRC,Title,Artist,Units,Amount,Currency\n"
MERCADO = (
    "Report,Mercado sales report\r\nPeriod,2025-03\r\nCurrency,GBP\r\n\r\n"
    "Sale Date,Country,ISRC,Track Title,Track Artist,Units,Net Revenue\r\n"
    '2025-03-01,DE,USUM70600055,"Hello, again",A,3,0.0126\r\n'
    "2025-03-01,FR,USUM70600056,B,B,1,.0042\r\n"
    "Total,,,,,4,0.0168\r\nLines,2\r\n"
)


def opened(content: str | bytes) -> DelimitedFile:
    body = content if isinstance(content, bytes) else content.encode()
    return DelimitedFile("sha", TextLines(io.BytesIO(body)), bundled_templates())


def test_a_file_is_known_by_its_columns_and_read_with_its_preamble_and_footer():
    file = opened(MERCADO)
    first, second = file.rows()
    assert file.template.name == "mercado_sales"
    assert (first.row_number, second.row_number) == (6, 7)
    assert first.content == {
        "used_on": date(2025, 3, 1),
        "territory": "DE",
        "isrc": "USUM70600055",
        "title": "Hello, again",
        "artist": "A",
        "units": 3,
        "amount": "0.0126",
        "use_type": "PermanentDownload",
        "currency": "GBP",
    }
    stated = {"units": Decimal(4), "amount": Decimal("0.0168"), "lines": Decimal(2)}
    assert {name: from_atoms(atoms) for name, atoms in file.totals.stated.items()} == stated
    assert file.totals.differences() == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Total,,,,,4", "Total,,,,,5", "5 units"),
        ("0.0168", "0.0167", "0.0167 amount"),
        ("Lines,2", "Lines,3", "3 lines"),
    ],
)
def test_a_footer_that_does_not_agree_is_told(old, new, told):
    file = opened(MERCADO.replace(old, new))
    assert len(list(file.rows())) == 2
    (difference,) = file.totals.differences()
    assert told in difference


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packed", [False, True])
def test_delimiter_byte_order_mark_and_compression_do_not_matter(delimiter, prefix, packed):
    body = prefix + (REPORT + "2025-03-01,DE,,T,A,1,,\n").replace(",", delimiter).encode()
    (row,) = opened(gzip.compress(body) if packed else body).rows()
    assert row.content["units"] == 1
    assert "amount" not in row.content


@pytest.mark.parametrize(
    ("units", "read"),
    [
        ("1200", 1200),
        ("1,200", 1200),
        ("-3", -3),
        ("1,2", "1,2"),
        ("1.5", "1.5"),
        ("x", "x"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_units_are_read_or_left_as_written(units, read):
    (row,) = opened(REPORT.replace(",", ";") + f"2025-03-01;DE;;T;A;{units};;\n").rows()
    assert row.content["units"] == read


def test_a_line_with_a_wrong_number_of_cells_is_rejected_and_the_rest_goes_on():
    file = opened(REPORT + "2025-03-01,DE,,T,A,1\n2025-03-01,DE,,T,A,1,,\n")
    rejection, row = file.rows()
    assert isinstance(rejection, Rejection)
    assert (rejection.row_number, rejection.rule) == (2, "record:cells")
    assert "6 cells, the header has 8" in rejection.reason
    assert isinstance(row, SourceRow)
    assert file.totals.lines == 2


def test_bytes_that_are_no_text_are_rejected_by_line():
    rejection, row = opened(
        REPORT.encode() + b"2025-03-01,DE,,Beyonc\xe9,A,1,,\n2025-03-01,DE,,T,A,1,,\n"
    ).rows()
    assert rejection.rule == "record:encoding"
    assert row.row_number == 3


def test_a_cell_beyond_all_measure_is_rejected_and_the_rest_goes_on():
    lines = f"2025-03-01,DE,,{'x' * 200_000},A,1,,\n2025-03-01,DE,,T,A,1,,\n"
    (block,) = opened(REPORT + lines).blocks()
    assert [(r.row_number, r.rule) for r in block.rejections] == [(2, "title:string_too_long")]
    assert block.lines["row_number"].to_list() == [3]


@pytest.mark.parametrize(
    ("content", "rule", "told"),
    [
        (b"", "file:empty", "empty"),
        (b"<html>\n<body>Sorry</body>\n", "file:template_unknown", "<html>"),
        (b"Sale Date,Country,ISRC,Other\n1,2,3,4\n", "file:template_unknown", "mercado_sales"),
        (MERCADO.replace("Currency,GBP\r\n", "").encode(), "file:preamble", "'Currency'"),
    ],
)
def test_a_file_that_nothing_recognises_is_refused_in_words(content, rule, told):
    with pytest.raises(UnreadableFileError) as refused:
        opened(content)
    assert refused.value.rule == rule
    assert told in refused.value.reason


def test_a_gzip_that_breaks_off_is_refused_with_the_line():
    packed = gzip.compress((REPORT + "2025-03-01,DE,,T,A,1,,\n" * 5000).encode())
    file = opened(packed[:-20])
    with pytest.raises(UnreadableFileError, match="breaks off after line"):
        list(file.rows())


def test_a_signature_column_that_stands_twice_recognises_nothing():
    with pytest.raises(UnreadableFileError):
        opened(REPORT.replace("Title", "ISRC") + "2025-03-01,DE,,T,A,1,,\n")


def test_a_quotation_mark_that_stays_open_swallows_no_line():
    """It is a part of the title where the line has its cells all the same; else it is refused."""
    lines = [
        f"2021-01-0{n},DE,,{title},A,1,{n}.00,EUR\n"
        for n, title in ((1, '"Heroes'), (2, "Low"), (3, '"Heroes, live'), (4, '"Heroes" (live)'))
    ]
    first, second, refused, last = opened(REPORT + "".join(lines)).rows()
    assert (first.content["title"], first.content["amount"]) == ('"Heroes', "1.00")
    assert (second.content["title"], second.content["amount"]) == ("Low", "2.00")
    assert (refused.rule, refused.row_number) == ("record:csv", 4)
    assert last.content["title"] == '"Heroes" (live)'


def test_in_tab_separated_files_a_quotation_mark_is_a_part_of_the_title():
    lines = [f"2021-01-01\tDE\t\t{title}\tA\t1\t\t\n" for title in ('"Heroes', '12" Mix', '"Q"')]
    rows = list(opened(REPORT.replace(",", "\t") + "".join(lines)).rows())
    assert [row.content["title"] for row in rows] == ['"Heroes', '12" Mix', "Q"]


def test_a_song_called_total_is_no_footer():
    lines = "Total,DE,USUM70600055,T,A,1,0.50\r\n"
    body = MERCADO.replace("Total,,,,,4,0.0168\r\nLines,2\r\n", lines)
    assert len(list(opened(body).rows())) == 3


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=6),
            max_size=10,
        ),
        max_size=10,
    )
)
def test_every_line_comes_out_once_whatever_is_in_it(table):
    """Rows in = rows + rejections, always."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    file = opened(REPORT + text.getvalue())
    rows = list(file.rows())
    told = [cells for cells in table if any(cell.strip() for cell in cells)]
    assert len(rows) == len(told) == file.totals.lines
