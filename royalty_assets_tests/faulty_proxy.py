"""A server between a client and a store that spoils what goes through it, on real sockets."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>'
)


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    Attributes:
        status: the answer, without the store being asked; 0 to ask it.
        sent_bytes: of the request's body, that reach the store before the connection is cut.
        answered_bytes: of the answer's body, that reach the client before the connection is cut.
        loses_answer: whether the store does what it is asked, and nobody hears of it.
        flips: whether a bit of the answer's body changes.
    """

    status: int = 0
    sent_bytes: int | None = None
    answered_bytes: int | None = None
    loses_answer: bool = False
    flips: bool = False


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to a store what ``fault_of`` does not spoil; remembers (method, path) of each."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarded)
        self.upstream = urlsplit(upstream).netloc
        self.fault_of: Callable[[str, str], Fault | None] = lambda *_: None
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spoil(self, method: str, fault: Fault, times: int = 1, containing: str = "") -> None:
        """Spoil the next requests of a method whose path and query contain a text."""
        left = [times]

        def fault_of(asked: str, path: str) -> Fault | None:
            if asked != method or containing not in path or not left[0]:
                return None
            left[0] -= 1
            return fault

        self.fault_of = fault_of


class _Forwarded(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"  # clients wait for its `100 Continue` before they send a body

    def _forward(self) -> None:
        self.close_connection = True
        self.server.asked.append((self.command, self.path))
        fault = self.server.fault_of(self.command, self.path) or Fault()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault.status:
            self._answer(fault.status, [("Content-Type", "application/xml")], SLOW_DOWN, fault)
            return
        store = http.client.HTTPConnection(self.server.upstream)
        try:
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    store.putheader(name, value)
            store.endheaders(body[: fault.sent_bytes])
            if fault.sent_bytes is not None:
                return
            answer = store.getresponse()
            content = answer.read()
            if not fault.loses_answer:
                self._answer(answer.status, answer.getheaders(), content, fault)
        finally:
            store.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", len(body)) if not body else len(body)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        if fault.flips:
            body = bytes([body[0] ^ 1]) + body[1:]
        if self.command != "HEAD":
            self.wfile.write(body[: fault.answered_bytes])

    def __getattr__(self, name: str) -> Callable[[], None]:
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self._forward

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy before a store."""
    with FaultyProxy(upstream) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            serving.join()
