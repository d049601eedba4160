"""The demo: three simulated services, one day, one month's payout, in a home of its own.

The services run in a process beside this one, which ends when this one does, however it ends.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import yaml

from royalty_assets.settings import CONFIG_NAME, SettingsError
from royalty_assets.simulator.scenario import MERCADO, SERVICES, Scenario
from royalty_assets.simulator.world import make_world, write_catalog

SIMULATOR_URL_VARIABLE = "ROYALTY_ASSETS_SIMULATOR_URL"
SIMULATOR_PORT = 8765
DEMO_MARK = "# Written by `royalty-assets demo`; it is written again each time."
DEMO_SCENARIO = Scenario(recordings=4_000)
_SCENARIO_NAME = "scenario.json"

_ABOUT = {
    "sonora": "Simulated streaming service: telemetry as pages of JSON behind a cursor.",
    "vinylia": "Simulated streaming service: telemetry as gzip files per hour and region.",
    "mercado": "Simulated download store: monthly sales reports, one file per currency.",
}
_DIALECTS = {"sonora": "cursor_json", "vinylia": "ndjson_files", "mercado": "report_files"}


def write_demo_project(home: Path, scenario: Scenario) -> None:
    """Write feeds.yaml and the catalog of the demo, unless they are there as they should be.

    Raises:
        SettingsError: if the folder holds a project of somebody's own.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / CONFIG_NAME
    if path.exists() and DEMO_MARK not in path.read_text(encoding="utf-8"):
        raise SettingsError(f"{home} holds a project of its own; run the demo in another folder")
    text = f"{DEMO_MARK}\n" + yaml.safe_dump(demo_feeds(scenario), sort_keys=False, width=100)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    write_catalog(make_world(scenario), home / "catalog")
    (home / _SCENARIO_NAME).write_text(
        json.dumps(
            {
                "seed": scenario.seed,
                "events": scenario.events,
                "recordings": scenario.recordings,
                "hours": scenario.hours,
            }
        ),
        encoding="utf-8",
    )


def read_scenario(home: Path) -> Scenario:
    """The scenario that a demo project was written for."""
    path = home / _SCENARIO_NAME
    if not path.exists():
        return DEMO_SCENARIO
    return Scenario(**json.loads(path.read_text(encoding="utf-8")))


def demo_feeds(scenario: Scenario) -> dict[str, object]:
    """The configuration of the demo's feeds."""
    base = f"${{{SIMULATOR_URL_VARIABLE}:-http://127.0.0.1:{SIMULATOR_PORT}}}"
    feeds = []
    for service in SERVICES.values():
        feed: dict[str, object] = {
            "name": service.name,
            "description": _ABOUT[service.name],
            "owner": "team:royalties",
            "records": "report_lines" if service is MERCADO else "play_events",
            "cadence": str(service.cadence),
            "start": scenario.start.isoformat(),
            "end": (scenario.start + timedelta(hours=scenario.hours)).isoformat(),
            "source": {
                "dialect": _DIALECTS[service.name],
                "url": f"{base}/{service.name}",
                "requests_per_second": 100,
            },
        }
        if service is not MERCADO:
            feed["pool_source"] = {
                "dialect": "report_files",
                "url": f"{base}/{service.name}/pools",
            }
        else:
            # A month's sales are told by the tenth of the next, in the evening of São Paulo.
            feed["calendar"] = {"due_after_days": 10, "time_zone": "America/Sao_Paulo"}
        feeds.append(feed)
    return {
        "catalog": {"folder": "catalog", "missing_shares": "held"},
        # So few sales in yen leave more of them in suspense than a label would let pass.
        "closing": {"suspense_fraction_max": "0.15"},
        "feeds": feeds,
    }


@contextmanager
def simulated_services(scenario: Scenario, port: int = 0) -> Iterator[str]:
    """Run the services in a process of their own; yields their base URL.

    Raises:
        SettingsError: if they do not start, for example because the port is taken.
    """
    command = [
        sys.executable, "-m", "royalty_assets.cli", "simulate", "--until-stdin-closes",
        "--port", str(port), "--events", str(scenario.events), "--seed", str(scenario.seed),
        "--recordings", str(scenario.recordings), "--hours", str(scenario.hours),
    ]  # fmt: skip
    # Its threads would each keep freed memory in an arena of their own.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    with subprocess.Popen(  # noqa: S603 - the command is made of our own words and numbers
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            url = child.stdout.readline().strip()
            if not url.startswith("http://"):
                raise SettingsError(f"the simulated services did not start on port {port}")
            yield url
        finally:
            child.stdin.close()
            child.wait(timeout=30)
