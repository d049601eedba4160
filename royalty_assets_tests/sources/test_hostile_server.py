"""What a hostile service can do to the HTTP client: nothing but be refused, in words.

Every attack is real, by a server on localhost. What is asserted is what came of it: which error,
what was never asked, how much was read, how much memory it took.
"""

import asyncio
import gzip
import json
import tracemalloc

import pytest
from pydantic import ValidationError

from royalty_assets.domain.feeds import HttpSource, InboxSource
from royalty_assets.domain.windows import Cadence, Partition
from royalty_assets.sources.dialects import open_http_source
from royalty_assets.sources.http import FeedClient, parse_json
from royalty_assets.sources.payloads import (
    PermanentSourceError,
    SourceError,
    TransientSourceError,
)
from royalty_assets_tests.hostile_server import (
    bomb,
    bomb_in_bomb,
    hostile_server,
    never_ends,
    says,
)

HOUR = Partition.parse(Cadence.HOURLY, "2025-03-01-01:00")
TOKEN = "canary-0b5e7f4f9a6d4d1c"
ESCAPED_TOKEN = b"".join(b"\\u%04x" % ord(character) for character in TOKEN)
PAGE_BYTES = 1_000_000


def config(url, dialect="cursor_json", **limits):
    known = {"page_bytes_max": PAGE_BYTES, "attempts": 1, "requests_per_second": 10_000}
    return HttpSource(dialect=dialect, url=f"{url}/api", token_env="TOKEN", **(known | limits))


async def take(url, spool, dialect="cursor_json", **limits):
    async with open_http_source(config(url, dialect, **limits), TOKEN) as source:
        return [b"".join(p.chunks()) async for p in source.payloads(HOUR, spool)]


def attacked(answer, spool, dialect="cursor_json", **limits):
    """What the client makes of an answer, and the server."""

    async def attack():
        async with hostile_server(answer) as server:
            try:
                return await take(server.url, spool, dialect, **limits), server
            except SourceError as error:
                return error, server

    return asyncio.run(attack())


def listing(*files):
    return says("200 OK", body=json.dumps({"key": HOUR.key, "files": files}).encode())


# Where it points


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("path", ["http://127.0.0.1:{}/api", "//127.0.0.1:{}/x", "/api/elsewhere"])
def test_a_redirect_is_not_followed_wherever_it_points(status, path, tmp_path):
    async def attack():
        async with hostile_server(says("200 OK", body=b'{"events":[]}')) as other:
            location = path.format(other.url.rpartition(":")[2])
            async with hostile_server(says(status, f"Location: {location}")) as first:
                with pytest.raises(PermanentSourceError, match="Redirects are not followed"):
                    await take(first.url, tmp_path)
                return first.asked, other.asked

    first, other = asyncio.run(attack())
    assert len(first) == 1
    assert TOKEN.encode() in first[0]
    assert other == []


@pytest.mark.parametrize(
    "link",
    [
        "http://{other}/x", "//{other}/x", "https://{other}/x", "HTTP://{other}/x",
        "http://user@{other}/x", "http://{own}@{other}/x", "http://{own}\\@{other}/x",
        "\thttp://{other}/x", " http://{other}/x", "ht\ntp://{other}/x", "/\t/{other}/x",
        "ftp://{own}/x", "https://{own}/x", "http://user@{own}/x",
    ],
)  # fmt: skip
def test_a_link_to_another_host_or_scheme_is_never_asked(link, tmp_path):
    async def attack():
        async with (
            hostile_server(says("200 OK", body=b"stolen")) as other,
            hostile_server(listing()) as own,
        ):
            hosts = {"other": other.url[7:], "own": own.url[7:]}
            own.answer = listing({"name": "a.csv", "url": link.format(**hosts)})
            with pytest.raises(PermanentSourceError) as refused:
                await take(own.url, tmp_path, "report_files")
            return str(refused.value), own.asked, other.asked

    refused, own, other = asyncio.run(attack())
    assert (len(own), other) == (1, [])
    assert refused.isprintable()


def test_https_is_never_left_for_http():
    client = FeedClient(HttpSource(dialect="cursor_json", url="https://dsp.example/api"), TOKEN)
    for link in ("http://dsp.example/api/x", "http://dsp.example:443/x", "ftp://dsp.example/x"):
        with pytest.raises(PermanentSourceError, match="another host, port or scheme"):
            client.url(link)
    for own in ("https://DSP.example:443/x", "https:\\\\evil.example\\x", "//dsp.example/x"):
        assert client.url(own).lower().startswith("https://dsp.example")


# How much it sends


@pytest.mark.parametrize(
    "headers",
    [("Content-Length: 99999999999",), ("Transfer-Encoding: chunked",), ("Connection: close",)],
    ids=["announced", "chunked", "until it closes"],
)
def test_a_page_without_end_is_refused_once_the_limit_is_read(headers, tmp_path):
    refused, server = attacked(never_ends(*headers), tmp_path)
    assert isinstance(refused, PermanentSourceError)
    assert "larger than 1,000,000 bytes" in str(refused)
    # What the sockets hold between the two is the system's.
    assert server.sent < PAGE_BYTES + (16 << 20)


def test_a_page_that_announces_too_much_is_refused_unread(tmp_path):
    async def only_its_head(server, _head, writer):
        await server.write(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n")
        await asyncio.Event().wait()

    refused, _ = attacked(only_its_head, tmp_path)
    assert "larger than 1,000,000 bytes" in str(refused)


def test_a_gzip_bomb_unpacks_no_further_than_the_limit(tmp_path):
    packed = bomb(200)
    tracemalloc.start()
    try:
        refused, _ = attacked(
            says("200 OK", "Content-Encoding: gzip", body=packed[:PAGE_BYTES]), tmp_path
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(refused, PermanentSourceError)
    assert "larger than" in str(refused)
    assert peak < 12 * PAGE_BYTES


@pytest.mark.parametrize("packing", ["gzip, gzip", "br", "zstd", "deflate", "gzip,identity"])
def test_a_packing_that_was_not_asked_for_is_refused_unopened(packing, tmp_path):
    answer = says("200 OK", f"Content-Encoding: {packing}", body=bomb_in_bomb(10))
    refused, server = attacked(answer, tmp_path)
    assert isinstance(refused, PermanentSourceError)
    assert "only gzip was asked for" in str(refused)
    assert b"accept-encoding: gzip\r\n" in server.asked[0].lower()


def test_gzip_pages_are_read_whole_or_asked_for_again(tmp_path):
    body = json.dumps({"events": ["x" * 300_000]}).encode()
    members = gzip.compress(body[:100]) + gzip.compress(body[100:])
    for packed in (gzip.compress(body), members):
        pages, _ = attacked(says("200 OK", "Content-Encoding: gzip", body=packed), tmp_path)
        assert pages == [body]
    for broken in (gzip.compress(body)[:-9], b"no gzip", gzip.compress(body)[:40]):
        failed, _ = attacked(says("200 OK", "Content-Encoding: gzip", body=broken), tmp_path)
        assert isinstance(failed, TransientSourceError)


@pytest.mark.parametrize("surrogate", ["", '"\\ud800",'], ids=["plain", "with half a surrogate"])
@pytest.mark.parametrize("depth", [300, 900, 100_000])
def test_json_nested_without_measure_is_refused(depth, surrogate, tmp_path):
    body = f'{{"events":[{surrogate}{"[" * depth}{"]" * depth}]}}'.encode()
    refused, _ = attacked(says("200 OK", body=body), tmp_path)
    assert isinstance(refused, TransientSourceError)
    assert "is not JSON" in str(refused)
    fine = f"[{surrogate}{'[' * 90}{']' * 90}]".encode()
    assert len(parse_json(fine)) == (2 if surrogate else 1)


def test_headers_without_measure_are_refused(tmp_path):
    many = [f"X-{number}: {'y' * 50}" for number in range(5_000)]
    for headers in (many, ["X-Long: " + "y" * 300_000]):
        refused, _ = attacked(says("200 OK", *headers, body=b'{"events":[]}'), tmp_path)
        assert isinstance(refused, TransientSourceError)
        assert "could not be read" in str(refused)


# How long it takes


@pytest.mark.parametrize("dialect", ["cursor_json", "report_files"])
def test_an_answer_that_trickles_is_given_up_as_a_whole(dialect, tmp_path):
    """Each piece comes in time; the server's pace is the attack."""
    trickle = never_ends("Transfer-Encoding: chunked", piece=b" ", seconds=0.01)

    async def answer(server, head, writer):
        if b"/deliveries/" in head:
            await listing({"name": "a", "url": "/api/a"})(server, head, writer)
        else:
            await trickle(server, head, writer)

    limits = {"answer_seconds_max": 0.2, "timeout_seconds": 60}
    given_up, _ = attacked(answer, tmp_path, dialect, **limits)
    assert isinstance(given_up, TransientSourceError)
    assert "not there as a whole after 0.2 s" in str(given_up)


def test_a_head_that_trickles_is_given_up_too(tmp_path):
    async def trickle(server, _head, writer):
        await server.write(writer, b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await server.write(writer, b"y")
            await asyncio.sleep(0.01)

    given_up, _ = attacked(trickle, tmp_path, answer_seconds_max=0.2, timeout_seconds=60)
    assert "not there as a whole" in str(given_up)


# How often


def _pages(cursor_of):
    async def answer(server, head, writer):
        page = {"events": ["x" * 1_000], "next_cursor": cursor_of(len(server.asked))}
        await says("200 OK", body=json.dumps(page).encode())(server, head, writer)

    return answer


@pytest.mark.parametrize("length", [1, 2, 7])
def test_pages_in_a_circle_end(length, tmp_path):
    refused, server = attacked(_pages(lambda asked: f"c{asked % length}"), tmp_path)
    assert isinstance(refused, PermanentSourceError)
    assert "go in a circle" in str(refused)
    assert len(server.asked) <= 3 * length + 1


@pytest.mark.parametrize(
    ("limits", "told", "asked"),
    [
        ({"answers_max": 6}, "more than 6 pages", 6),
        ({"partition_bytes_max": 5_000}, "more than 5,000 bytes", 5),
    ],
)
def test_pages_without_end_end(limits, told, asked, tmp_path):
    refused, server = attacked(_pages(str), tmp_path, **limits)
    assert isinstance(refused, PermanentSourceError)
    assert told in str(refused)
    assert len(server.asked) == asked


def test_a_cursor_of_a_megabyte_is_refused(tmp_path):
    refused, server = attacked(_pages(lambda _: "c" * 500_000), tmp_path)
    assert "next cursor of 500,000 characters" in str(refused)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("announced", "limits", "kind", "told"),
    [
        (10, {}, TransientSourceError, "goes on after the 10 bytes"),
        (None, {"partition_bytes_max": 2_000_000}, PermanentSourceError, "beyond 2,000,000 bytes"),
        (5_000, {"partition_bytes_max": 4_000}, PermanentSourceError, "beyond 4,000 bytes"),
    ],
)
def test_a_file_beyond_what_is_announced_or_allowed_is_not_spooled(
    announced, limits, kind, told, tmp_path
):
    async def answer(server, head, writer):
        if b"/deliveries/" in head:
            file = {"name": "../../a", "url": "/api/a", "bytes": announced}
            await listing(file)(server, head, writer)
        else:
            await never_ends("Transfer-Encoding: chunked")(server, head, writer)

    refused, _ = attacked(answer, tmp_path, "report_files", **limits)
    assert isinstance(refused, kind)
    assert told in str(refused)
    # A piece beyond the limit is never written; what is spooled has a name of ours.
    spooled = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(spooled) <= {"000000"}
    assert sum(spooled.values()) <= limits.get("partition_bytes_max", 10)
    assert not (tmp_path.parent / "a").exists()


def test_more_files_than_allowed_are_not_begun(tmp_path):
    files = [{"name": "a", "url": f"/api/{number}"} for number in range(4)]
    refused, server = attacked(listing(*files), tmp_path, "report_files", answers_max=3)
    assert "more than 3 pages or files" in str(refused)
    assert len(server.asked) == 1


# What is told of it


@pytest.mark.parametrize(
    "answer",
    [
        says(f"401 No {TOKEN}"),
        says(f"503 Busy {TOKEN}"),
        says(f"404 None {TOKEN}"),
        says("302 Found", f"Location: http://evil.example/?{TOKEN}"),
        says("200 OK", body=f"<p>{'x' * 60}{TOKEN}".encode()),
        says("200 OK", body=json.dumps({"events": [], "next_cursor": TOKEN}).encode()),
        says("200 OK", body=json.dumps({"events": [TOKEN]}).encode()),
        says("200 OK", body=b'{"events": [], "next_cursor": "%s"}' % ESCAPED_TOKEN),
        says("200 OK", f"Content-Encoding: {TOKEN}", body=b"x"),
    ],
)
def test_a_service_that_says_the_token_is_told_without_it(answer, tmp_path):
    refused, server = attacked(answer, tmp_path)
    assert TOKEN.encode() in server.asked[0]
    assert isinstance(refused, SourceError)
    assert refused.__cause__ is None
    assert refused.__context__ is None or refused.__suppress_context__
    for part in (TOKEN, TOKEN[:10]):
        assert part not in str(refused)


def test_a_token_that_a_message_would_cut_is_not_told_in_part():
    """It is too short to be told from a word, so that the page itself is no reason to refuse."""
    token = "hunter2hunter2"

    async def attack():
        body = f"<p>{'x' * 70}{token}".encode()
        async with hostile_server(says("200 OK", body=body)) as server:
            async with FeedClient(config(server.url), token) as client:
                with pytest.raises(TransientSourceError, match="it begins") as refused:
                    await client.page("events")
            return str(refused.value)

    assert "hunter" not in asyncio.run(attack())


def test_what_a_service_says_stays_on_one_line(tmp_path):
    forged = "http://evil\x1b[2J\n2025-03-01 INFO all is well"
    for answer, dialect in (
        (listing({"name": "a", "url": forged}), "report_files"),
        (says("200 OK", body=b"\x1b[2J\nINFO all is well"), "cursor_json"),
        (_pages(lambda _: "c\n\x1b[2J"), "cursor_json"),
    ):
        refused, _ = attacked(answer, tmp_path, dialect)
        assert isinstance(refused, SourceError)
        assert str(refused).isprintable()


# What may be configured


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "gopher://dsp.example", "dsp.example", "https://",
        "https://user:hunter2@dsp.example", "https://hunter2@dsp.example",
        "https://dsp.example/api?key=hunter2", "https://dsp.example/#hunter2",
        "http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/",
        "http://2852039166/", "http://0xa9fea9fe/", "http://169.254.43518/",
    ],
)  # fmt: skip
def test_a_url_with_secrets_or_to_the_machines_own_addresses_is_no_setting(url):
    with pytest.raises(ValidationError) as refused:
        HttpSource(dialect="cursor_json", url=url)
    assert "hunter2" not in refused.value.errors(include_url=False)[0]["msg"]


def test_a_token_is_sent_in_clear_to_this_machine_alone():
    for url in ("http://127.0.0.1:8/x", "http://localhost/", "http://[::1]/", "https://d.example"):
        HttpSource(dialect="cursor_json", url=url, token_env="TOKEN")
    with pytest.raises(ValidationError, match="begin with https://"):
        HttpSource(dialect="cursor_json", url="http://dsp.example", token_env="TOKEN")
    HttpSource(dialect="cursor_json", url="http://dsp.example")


@pytest.mark.parametrize(
    "setting",
    [
        {"folder": "sftp://label:hunter2@dsp.example/out"},
        {"folder": "s3://b/x", "endpoint_url": "https://key:hunter2@s3.example"},
    ],
)
def test_an_inbox_holds_no_password(setting):
    with pytest.raises(ValidationError) as refused:
        InboxSource(dialect="inbox", **setting)
    assert "hunter2" not in refused.value.errors(include_url=False)[0]["msg"]
