"""The folder where Dagster finds its settings: made and kept as the project's own settings say.

Where the registry is PostgreSQL, Dagster's runs and events are in the same database, in its
``public`` schema. The file names the environment variable; no URL, and so no password, is written.
"""

from importlib.resources import files
from pathlib import Path

import yaml

from royalty_assets.settings import Settings
from royalty_assets.storage.database import POSTGRESQL, parsed_url

URL_VARIABLE = "ROYALTY_ASSETS_REGISTRY_URL"
_BEGIN = f"# >>> as {URL_VARIABLE} says; the commands write this"
_END = "# <<<\n"
_STORAGE = f"{_BEGIN}\nstorage:\n  postgres:\n    postgres_url: {{env: {URL_VARIABLE}}}\n{_END}"


def prepare_dagster_home(settings: Settings) -> dict[str, str]:
    """Make the folder that Dagster keeps its records in, with our settings for it.

    What somebody changed in its ``dagster.yaml`` stays, a ``storage`` of their own too.

    Returns:
        The environment of Dagster, in this process or in others.

    Raises:
        DatabaseUrlError: if the registry's URL is none.
    """
    folder = settings.dagster_home
    folder.mkdir(parents=True, exist_ok=True)
    url = parsed_url(settings.registry)
    _keep(folder / "dagster.yaml", on_postgresql=url.drivername == POSTGRESQL)
    environment = {"DAGSTER_HOME": str(folder)}
    if url.drivername == POSTGRESQL:
        # Spelt with the driver: Dagster gives it to SQLAlchemy as it is.
        environment[URL_VARIABLE] = url.render_as_string(hide_password=False)
    return environment


def _keep(path: Path, *, on_postgresql: bool) -> None:
    template = files("royalty_assets").joinpath("project_template/dagster.yaml")
    before = path.read_text(encoding="utf-8") if path.exists() else None
    text = template.read_text(encoding="utf-8") if before is None else before
    head, begin, rest = text.partition(_BEGIN)
    if begin:
        text = head + rest.partition(_END)[2]
    if on_postgresql and "storage" not in (yaml.safe_load(text) or {}):
        text = f"{text.rstrip()}\n\n{_STORAGE}"
    if text != before:
        path.write_text(text, encoding="utf-8")
