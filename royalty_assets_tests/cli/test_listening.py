"""Who can reach the desk and the UI: this machine, or others by a proxy that is named."""

import pytest
from typer.testing import CliRunner

from royalty_assets.cli import app
from royalty_assets.cli.listening import where_to_listen
from royalty_assets.settings import SettingsError


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_this_machine_needs_nothing_more(address):
    assert where_to_listen(address, None).names == ("127.0.0.1", "localhost")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.5", "192.168.1.7", "8.8.8.8"])
def test_others_are_let_in_by_a_named_proxy_alone(address):
    with pytest.raises(SettingsError, match="put-a-proxy-in-front"):
        where_to_listen(address, None)
    listening = where_to_listen(address, "https://desk.label.example")
    assert listening.address == address
    assert listening.names == ("127.0.0.1", "localhost", "desk.label.example")


@pytest.mark.parametrize(
    "proxy", ["", "yes", "http://desk.label.example", "https://x.example/desk"]
)
def test_a_proxy_is_named_by_its_https_address(proxy):
    with pytest.raises(SettingsError, match="not the address of a proxy"):
        where_to_listen("0.0.0.0", proxy)


@pytest.mark.parametrize("command", ["desk", "ui"])
def test_neither_server_starts_open_to_others(command, tmp_path):
    assert CliRunner().invoke(app, ["init", str(tmp_path)]).exit_code == 0
    refused = CliRunner().invoke(app, [command, str(tmp_path), "--host", "0.0.0.0"])
    assert refused.exit_code == 2
    assert not (tmp_path / "registry.db").exists()
