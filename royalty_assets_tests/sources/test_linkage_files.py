"""Files of labelled examples: what is read of them, and what is said of those that are not."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalty_assets.sources.linkage_files import LinkageFileError, read_clusters, read_pairs

SIDE = "COL Song_Name VAL Stay COL Artist_Name VAL Zed COL Mood VAL sad COL Time VAL "


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "examples"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_known_columns_of_clusters_are_read_and_others_left(file):
    read = read_clusters(
        file('\ufeffTitle,Mood, Cluster ,year\r\n"Stay, or go",sad,7,2001\r\n\r\nHere,,8,\r\n')
    )
    assert read.fields == ("title", "year")
    assert read.records == [{"title": "Stay, or go", "year": "2001"}, {"title": "Here", "year": ""}]
    assert read.clusters == ["7", "8"]


def test_a_line_that_is_no_utf8_is_read_as_windows_1252(file):
    read = read_clusters(file(b"cluster,title\n1,Caf\xe9\n1,Caf\xc3\xa9\n"))
    assert [record["title"] for record in read.records] == ["Café", "Café"]


def test_a_cell_of_ten_megabytes_is_read(file):
    read = read_clusters(file(f"cluster,title\n1,{'la ' * 3_500_000}\n"))
    assert len(read.records[0]["title"]) > 10_000_000


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("cluster,title\n", "no rows"),
        ("id,title\n1,Stay\n", "no column 'cluster'"),
        ("cluster,artist\n1,Zed\n", "no column 'title'"),
        ("cluster,title,title\n1,a,b\n", "'title' is there twice"),
        ("cluster,title\n1,Stay\n1,Stay, or go\n", "line 3: 3 cells where the header has 2"),
        ("cluster,title\n1,Stay\n1\n", "line 3: 1 cells"),
        ("cluster,title\n1,Stay\n ,Go\n", "line 3: the cluster is empty"),
        ('cluster,title\n1,Go\n1,"Stay\n1,Here\n', "line 3: unexpected end of data"),
        ('cluster,title\n1,"Stay" or go\n', "line 2: ',' expected after '\"'"),
    ],
)
def test_a_clusters_file_that_cannot_be_used_is_told_by_line(file, content, told):
    path = file(content)
    with pytest.raises(LinkageFileError) as refused:
        read_clusters(path)
    assert str(path) in str(refused.value)
    assert told in str(refused.value)


def test_known_columns_of_pairs_are_read_and_others_left(file):
    read = read_pairs(file(f"{SIDE}3:34 \t{SIDE}\t1\n\n{SIDE}3:34\tCOL title VAL COL Go\t0\r\n"))
    assert read.fields == ("title", "artist", "duration")
    stay = {"title": "Stay", "artist": "Zed", "duration": "3:34"}
    assert read.pairs[0] == (stay, stay | {"duration": ""})
    assert read.pairs[1] == (stay, {"title": "COL Go"})
    assert read.labels == [True, False]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        (f"{SIDE}\t{SIDE}\n", "line 1: 2 parts between tabs"),
        (f"{SIDE}\t{SIDE}\t1\n{SIDE}\t{SIDE}\tyes\n", "line 2: the label is 'yes'"),
        (f"{SIDE}\tStay by Zed\t1\n", "line 1: a side does not begin with 'COL name VAL value'"),
        ("COL Mood VAL sad\tCOL Mood VAL sad\t1\n", "no column has a name that is known"),
    ],
)
def test_a_pairs_file_that_cannot_be_used_is_told_by_line(file, content, told):
    path = file(content)
    with pytest.raises(LinkageFileError) as refused:
        read_pairs(path)
    assert str(path) in str(refused.value)
    assert told in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LinkageFileError, match="cannot be read: No such file"):
        read_pairs(tmp_path / "nowhere")


@pytest.mark.parametrize("read", [read_clusters, read_pairs])
@given(content=st.binary(max_size=200))
def test_no_bytes_at_all_make_a_reader_stumble(tmp_path_factory, read, content):
    path = tmp_path_factory.mktemp("bytes") / "examples"
    path.write_bytes(b"cluster,title\n" + content if read is read_clusters else content)
    with suppress(LinkageFileError):
        read(path)
