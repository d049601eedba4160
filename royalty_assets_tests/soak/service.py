"""One server for all seeds of a process: the simulated services that are asked change under it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from royalty_assets.simulator.server import SimulatedServices


class Switchboard:
    """An ASGI application that is whichever services were installed last."""

    def __init__(self) -> None:
        self.url = ""
        self._services: SimulatedServices | None = None

    def install(self, services: SimulatedServices) -> None:
        """Answer by these services from now on."""
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        assert self._services is not None
        await self._services.app(scope, receive, send)


@contextmanager
def switchboard() -> Iterator[Switchboard]:
    """A switchboard that listens on localhost, in a thread of this process."""
    board = Switchboard()
    # Resets and timeouts are drawn; a server that tells each as an error says nothing.
    config = uvicorn.Config(board, log_level="critical", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        board.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield board
        finally:
            server.should_exit = True
            thread.join(timeout=10)
