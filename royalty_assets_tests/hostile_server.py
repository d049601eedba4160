"""A server on localhost that answers with exactly the bytes that a test wants, at its own pace.

It runs in the test's own event loop. What it was asked is kept, so that a test can tell what was
never asked.
"""

import asyncio
import gzip
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[["HostileServer", bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class HostileServer:
    """An open server.

    Attributes:
        asked: the heads of the requests so far.
        sent: bytes written so far.
    """

    answer: Answer
    url: str = ""
    asked: list[bytes] = field(default_factory=list)
    sent: int = 0

    async def write(self, writer: asyncio.StreamWriter, content: bytes) -> None:
        """Send some bytes, once the client has taken those before."""
        writer.write(content)
        await writer.drain()
        self.sent += len(content)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head)
            await self.answer(self, head, writer)
        writer.close()


@asynccontextmanager
async def hostile_server(answer: Answer) -> AsyncIterator[HostileServer]:
    """Serve ``answer`` on any free port; it writes what it likes to each connection."""
    hostile = HostileServer(answer)
    server = await asyncio.start_server(hostile._serve, "127.0.0.1", 0)
    hostile.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield hostile
    finally:
        server.close()
        await server.wait_closed()


@contextmanager
def hostile_server_beside(answer: Answer) -> Iterator[HostileServer]:
    """The same for clients in other processes: served from a thread of this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opened = hostile_server(answer)
    try:
        yield asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def says(status: str, *headers: str, body: bytes = b"") -> Answer:
    """An answer that is whole and says this."""

    async def answer(server: HostileServer, _head: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        await server.write(writer, "\r\n".join(lines).encode() + body)

    return answer


def never_ends(*headers: str, piece: bytes = b"x" * 65_536, seconds: float = 0) -> Answer:
    """An answer of 200 whose body goes on for ever, a piece at a time."""
    is_chunked = "Transfer-Encoding: chunked" in headers

    async def answer(server: HostileServer, _head: bytes, writer: asyncio.StreamWriter) -> None:
        await server.write(writer, "\r\n".join(["HTTP/1.1 200 OK", *headers, "", ""]).encode())
        framed = b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece
        while True:
            await server.write(writer, framed)
            await asyncio.sleep(seconds)

    return answer


def bomb(megabytes: int) -> bytes:
    """Gzip data a thousandth as long as what it unpacks to."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    return b"".join([*(packer.compress(zeros) for _ in range(megabytes)), packer.flush()])


def bomb_in_bomb(megabytes: int) -> bytes:
    """A bomb, packed once more: a millionth."""
    return gzip.compress(bomb(megabytes))
