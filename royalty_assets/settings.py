"""Settings: environment and configuration file → typed values, validated once.

No other module reads the environment. ``ROYALTY_ASSETS_HOME`` names the project's folder; all
else has a default inside it.
"""

import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from royalty_assets.domain.feeds import HttpSource, InboxSource, Project
from royalty_assets.logs import LogFormat, LogLevel, configure_logs

CONFIG_NAME = "feeds.yaml"
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class SettingsError(Exception):
    """A configuration that cannot be used; the message says where and what to do."""


class Settings(BaseSettings):
    """What a deployment can set, each by ``ROYALTY_ASSETS_<NAME>``.

    Attributes:
        home: the project's folder, with feeds.yaml, catalog/ and inbox/.
        registry_url: of the database of the registry, and of Dagster's own records where it is
            PostgreSQL (``postgresql://user:password@host:5432/database``); SQLite files in the
            home by default.
        registry_migrates: whether an older schema of the registry is brought up to date when it is
            opened; switched off where only the role that owns it does so.
        lake_url: where the lake is, a folder or ``s3://bucket/prefix``; ``{home}`` in it stands for
            the project's folder. What else S3 needs (endpoint, region, credentials) is boto3's.
        lake_folder: the same, for a folder: the older name of the setting.
        lake_cache_folder: where objects of a lake on S3 are kept near by.
        lake_cache_size: what they may take together, as ``10GB``.
        signing_key: the private key that the log is signed with, as ``keys new`` prints it; by
            default the one in the home's ``keys/``.
        log_format: ``text`` for people or ``json`` for programs; the command line writes its log
            to standard error where this or ``log_level`` is set.
        log_level: the least that is worth a line.
    """

    model_config = SettingsConfigDict(env_prefix="ROYALTY_ASSETS_", frozen=True)

    home: Path = Path("data")
    registry_url: SecretStr = SecretStr("")
    registry_migrates: bool = True
    lake_url: str = ""
    lake_folder: Path | None = None
    lake_cache_folder: Path | None = None
    lake_cache_size: ByteSize = Field(default=ByteSize(10_000_000_000), gt=0)
    signing_key: SecretStr = SecretStr("")
    log_format: LogFormat | None = None
    log_level: LogLevel | None = None

    @property
    def registry(self) -> str:
        """The registry's URL in force."""
        given = self.registry_url.get_secret_value()
        return given or f"sqlite:///{self.home.resolve() / 'registry.db'}"

    @property
    def lake(self) -> str:
        """The lake's place in force: a folder, or a URL.

        Raises:
            SettingsError: if what is set is neither.
        """
        if self.lake_url and self.lake_folder:
            raise SettingsError(
                "ROYALTY_ASSETS_LAKE_URL and ROYALTY_ASSETS_LAKE_FOLDER are both set; "
                "unset the second"
            )
        place = self.lake_url or str(self.lake_folder or "{home}/lake")
        place = place.replace("{home}", str(self.home.resolve()))
        url = urlsplit(place)
        if url.scheme and (url.scheme != "s3" or not url.netloc or url.query or url.fragment):
            raise SettingsError(
                f"ROYALTY_ASSETS_LAKE_URL is {place!r}; it has to be a folder, or an URL like "
                "s3://bucket/prefix"
            )
        return place

    @property
    def lake_cache(self) -> Path:
        """Where objects of a lake that is elsewhere are kept near by."""
        return self.lake_cache_folder or self.home.resolve() / "cache" / "lake"

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps the project's records."""
        return self.home.resolve() / "dagster"


def configure_logs_as_set() -> None:
    """Write the log to standard error, if the environment asks for it.

    Raises:
        SettingsError: if it asks for what there is not.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = f"ROYALTY_ASSETS_{problem['loc'][0]}".upper()
        raise SettingsError(f"{name} cannot be used: {problem['msg']}") from None
    if settings.log_format or settings.log_level:
        configure_logs(settings.log_format or "text", settings.log_level or "INFO")


class _Loader(yaml.SafeLoader):
    """YAML whose numbers with a point are exact: ``500.10`` is that, and no float beside it."""


def _exact_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | float:
    try:
        return Decimal(str(loader.construct_scalar(node)).replace("_", ""))
    except InvalidOperation:  # .inf and the like, for the setting's own type to refuse
        return loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:float", _exact_number)


def load_project(home: Path) -> Project:
    """Read ``feeds.yaml`` in the project's folder.

    ``${NAME}`` and ``${NAME:-default}`` are replaced by environment variables.

    Raises:
        SettingsError: naming the file, the place in it and the value.
    """
    path = home / CONFIG_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(
            f"{path} does not exist. `royalty-assets init {home}` starts a project there; "
            "`royalty-assets demo` makes one with simulated services."
        ) from None
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    try:
        return Project.model_validate(_with_variables(content))
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise SettingsError(f"{path} cannot be used:\n{problems}") from None


def _with_variables(content: Any) -> Any:
    """The same content with the variables in its texts replaced."""
    match content:
        case str():
            return _VARIABLE.sub(_replace_variable, content)
        case list():
            return [_with_variables(item) for item in content]
        case dict():
            return {key: _with_variables(value) for key, value in content.items()}
    return content


def _replace_variable(match: re.Match[str]) -> str:
    name, default = match.groups()
    value = os.environ.get(name, default)
    if value is None:
        raise SettingsError(
            f"feeds.yaml asks for the environment variable {name}, which is not set"
        )
    return value


def feed_tokens(project: Project) -> dict[str, str]:
    """Variable → bearer token or password, for the variables that sources name.

    Raises:
        SettingsError: if a named variable is not set.
    """
    tokens = {}
    for feed in project.feeds:
        for source in (feed.source, feed.pool_source):
            name = source.token_env if isinstance(source, HttpSource) else None
            if isinstance(source, InboxSource):
                name = source.password_env
            if name:
                secret: Any = os.environ.get(name)
                if not secret:
                    raise SettingsError(
                        f"feed {feed.name} needs its secret in the environment variable {name}, "
                        "which is not set"
                    )
                tokens[name] = secret
    return tokens
