"""Where the two web servers listen: on this machine alone, unless a proxy in front is named.

Neither the desk nor the Dagster UI knows who asks. What lets people in is a proxy that
authenticates them (docs/how-to/put-a-proxy-in-front.md); whoever opens a server to other machines
says its address, and so has read of it.
"""

import ipaddress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import typer

from royalty_assets.settings import SettingsError

LOOPBACK = "127.0.0.1"
Host = Annotated[
    str, typer.Option(help="The address to listen on; another than this machine's needs a proxy.")
]
BehindProxy = Annotated[
    str | None,
    typer.Option(
        help="The address by which an authenticating proxy serves it, as https://desk.label.example."
    ),
]


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen.

    Attributes:
        address: of this machine.
        names: host names by which browsers may ask.
    """

    address: str
    names: tuple[str, ...]


def where_to_listen(address: str, behind_proxy: str | None) -> Listening:
    """Check what was asked for.

    Raises:
        SettingsError: if others could reach it, and no proxy that lets people in is named.
    """
    try:
        parsed = ipaddress.ip_address(LOOPBACK if address == "localhost" else address)
    except ValueError:
        raise SettingsError(f"--host {address} is no address; write it as {LOOPBACK}") from None
    names = (LOOPBACK, "localhost")
    if behind_proxy is None:
        if not parsed.is_loopback:
            raise SettingsError(
                f"--host {address} would let everybody in who reaches this machine, under any "
                "name. Put a proxy in front that knows people, and name it by --behind-proxy; "
                "docs/how-to/put-a-proxy-in-front.md shows how"
            )
        return Listening(str(parsed), names)
    proxy = urlsplit(behind_proxy)
    if proxy.scheme != "https" or not proxy.hostname or proxy.path.strip("/"):
        raise SettingsError(
            f"--behind-proxy {behind_proxy} is not the address of a proxy; write it as "
            "https://desk.label.example, without a path"
        )
    return Listening(str(parsed), (*names, proxy.hostname))
