"""Feeds: what a DSP's telemetry or report series is, as configuration states it.

A feed becomes a chain of assets (``raw``, ``validated``, ``matched``) and, where its usage shares
a pool, a ``pool`` asset. Adding one is a few lines of YAML; how its dialect is spoken is in
``sources``. Secrets are named here, never held: ``token_env`` is the name of a variable.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from royalty_assets.domain.allocation import Allocation, ProRata
from royalty_assets.domain.calendar import DeliveryCalendar
from royalty_assets.domain.usage import Amount, Currency, RecordKind
from royalty_assets.domain.windows import Cadence, Partition, partitions_between


def _day_as_instant(value: Any) -> Any:
    """A bare date is its first instant."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def _in_utc(instant: datetime) -> datetime:
    """An instant without a zone is in UTC, whatever the zone of the machine."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


FeedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Instant = Annotated[datetime, BeforeValidator(_day_as_instant), AfterValidator(_in_utc)]
Owner = Annotated[str, StringConstraints(pattern=r"^(team:[A-Za-z0-9_.-]+|[^@\s]+@[^@\s]+)$")]


def _http_address(url: str) -> SplitResult:
    """The parts of a URL that may be asked.

    Raises:
        ValueError: if it is none, holds a user or password, or is a link-local address, where
            machines in a cloud find the credentials of their role.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("a URL that begins with http:// or https:// and names a host")
    if "@" in parts.netloc:
        raise ValueError("a URL without user and password; secrets come from the environment")
    last = parts.hostname.rstrip(".").rpartition(".")[2]
    try:
        address = ip_address(parts.hostname)
    except ValueError:
        # 2852039166 and 0xa9fe.0xa9fe are addresses to some; written so, they are a disguise.
        if re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", last):
            raise ValueError("a host's name, or an address of four numbers or of IPv6") from None
        return parts
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_link_local or plain.is_multicast:
        raise ValueError("a host that is a service; link-local addresses are the machine's own")
    return parts


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Configured(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _exact(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


ConfiguredAmount = Annotated[Amount, BeforeValidator(_exact)]
"""Money as people write it in YAML, with quotes or without."""


class HttpSource(_Configured):
    """A DSP's HTTP API.

    Attributes:
        dialect: ``cursor_json`` (pages of events), ``ndjson_files`` (gzip files of events per
            hour), ``report_files`` (CSV/TSV reports).
        url: of the folder that has ``deliveries``. Without user, password, query or fragment:
            secrets come by ``token_env`` alone, and with a token only over https, but for this
            machine.
        token_env: the environment variable that holds the bearer token, if one is needed.
        requests_per_second, requests_at_once: how hard the API may be asked.
        page_size: events asked for per page (``cursor_json``).
        timeout_seconds: for connecting, and for each piece of an answer.
        attempts: tries per request before the partition fails.
        answer_seconds_max: for a whole answer, however steadily its pieces come.
        page_bytes_max: of a page or listing, unpacked. In memory, hostile JSON takes thirty times
            as much.
        partition_bytes_max: of all pages or files of a partition, as they come.
        answers_max: pages, or files, of a partition.
    """

    dialect: Literal["cursor_json", "ndjson_files", "report_files"]
    url: str
    token_env: str | None = None
    requests_per_second: Annotated[float, Field(gt=0)] = 50
    requests_at_once: Annotated[int, Field(ge=1, le=64)] = 4
    page_size: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    timeout_seconds: Annotated[float, Field(gt=0)] = 30
    attempts: Annotated[int, Field(ge=1, le=20)] = 6
    answer_seconds_max: Annotated[float, Field(gt=0)] = 600
    page_bytes_max: Annotated[int, Field(ge=1_000)] = 16 << 20
    partition_bytes_max: Annotated[int, Field(ge=1_000)] = 64 << 30
    answers_max: Annotated[int, Field(ge=1)] = 100_000

    @field_validator("url")
    @classmethod
    def _is_an_address_without_secrets(cls, url: str) -> str:
        # What is wrong is told without the URL: it may hold the secret that should not be there.
        parts = _http_address(url)
        if parts.query or parts.fragment:
            raise ValueError("a URL without ? and #; secrets are named by token_env")
        return url

    @model_validator(mode="after")
    def _token_is_not_sent_in_clear(self) -> Self:
        parts = urlsplit(self.url)
        if self.token_env and parts.scheme == "http" and not _is_this_machine(parts.hostname or ""):
            raise ValueError("with a token the URL is to begin with https://, lest others read it")
        return self


class InboxSource(_Configured):
    """A folder that report files are dropped into.

    A file may hold several periods; each of its lines goes to the partition of its own date.

    Attributes:
        folder: relative to the project's home, or ``s3://bucket/prefix``, or
            ``sftp://user@host:port/folder``.
        semaphore: whether a file counts only when an empty file of its name and ``.ctrl`` is
            beside it, as DDEX asks for.
        settle_seconds: a file that was changed more recently is left to be finished.
        endpoint_url: of a store that speaks S3 and is not Amazon's.
        password_env: the environment variable that holds the SFTP password.
        key_file, known_hosts: SFTP key and host keys, where not in ~/.ssh.
        file_bytes_max: a larger file of another machine is left there, and told.
    """

    dialect: Literal["inbox"]
    folder: str
    semaphore: bool = False
    settle_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    endpoint_url: str | None = None
    password_env: str | None = None
    key_file: str | None = None
    known_hosts: str | None = None
    file_bytes_max: Annotated[int, Field(ge=1_000)] = 64 << 30

    @field_validator("folder")
    @classmethod
    def _is_a_place_we_can_read(cls, folder: str) -> str:
        scheme, colon, rest = folder.partition("://")
        if colon and (scheme not in {"s3", "sftp"} or not rest.strip("/")):
            raise ValueError("a folder of the project, s3://… or sftp://…")
        if colon and ":" in urlsplit(folder).netloc.rpartition("@")[0]:
            raise ValueError("a URL without password; name its variable by password_env")
        return folder

    @field_validator("endpoint_url")
    @classmethod
    def _is_a_store_without_secrets(cls, url: str | None) -> str | None:
        if url is not None:
            _http_address(url)
        return url

    @property
    def is_remote(self) -> bool:
        """Whether the folder is on another machine."""
        return "://" in self.folder


Severity = Literal["block", "warn", "off"]

REPORT_CHECKS: dict[str, Severity] = {
    "report_totals_agree": "block",
    "report_cross_sums_agree": "warn",
    "report_name_agrees": "warn",
    "remittance_agrees": "off",
}
"""The checks whose severity a feed can set, with the default."""


class FixedPool(_Configured):
    """An amount that the feed's usage shares each month, as agreed beforehand."""

    amount: Amount
    currency: Currency


class Feed(_Configured):
    """One DSP's telemetry or report series.

    Attributes:
        pools_in_reports: whether the reports bring their own pools, as DSR summaries do.
        allocation: the model by which the feed's usage shares its pools.
        keep_listening: whether plays are kept by listener, though the model does not need them.
        checks: check → ``block``, ``warn`` or ``off``, for those of ``REPORT_CHECKS``.
        remittance_tolerance: difference between report and cash that is let pass (bank charges).
        calendar: what is due when.
        rejected_fraction_max: rejected rows beyond which a partition is red.
    """

    name: FeedName
    description: str = ""
    owner: Owner = "team:royalties"
    records: RecordKind
    cadence: Cadence
    start: Instant
    end: Instant | None = None
    source: Annotated[HttpSource | InboxSource, Field(discriminator="dialect")]
    pool_source: Annotated[HttpSource | InboxSource, Field(discriminator="dialect")] | None = None
    pool: FixedPool | None = None
    pools_in_reports: bool = False
    allocation: Allocation = ProRata()
    keep_listening: bool = False
    checks: dict[str, Severity] = {}
    remittance_tolerance: Amount = Decimal(0)
    calendar: DeliveryCalendar | None = None
    window_minutes: Annotated[int, Field(ge=1, le=60)] = 5
    rejected_fraction_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.25")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        if self.records is RecordKind.POOLS:
            raise ValueError("pools are a part of a feed: give it pool_source or pool")
        if self.pools_in_reports and self.records is not RecordKind.REPORT_LINES:
            raise ValueError("pools_in_reports is for reports; telemetry brings no pools")
        if unknown := sorted(set(self.checks) - set(REPORT_CHECKS)):
            known = ", ".join(REPORT_CHECKS)
            raise ValueError(f"no such check: {', '.join(unknown)}; to be set are {known}")
        if self.pools_in_reports and self.pool_source is not None:
            raise ValueError("give either pools_in_reports or pool_source, not both")
        if self.pool is not None and self.pool_source is not None:
            raise ValueError("give either pool or pool_source, not both")
        return self

    @model_validator(mode="after")
    def _can_be_shared_so(self) -> Self:
        name = self.allocation.model
        if self.allocation != ProRata() and not self.has_pool:
            raise ValueError(
                f"allocation: {name} says how a pool is shared, and this feed has none; give it "
                "pool_source, pool or pools_in_reports, or take allocation out"
            )
        if self.records is RecordKind.PLAY_EVENTS:
            return self
        if self.allocation.needs_listening:
            raise ValueError(
                f"allocation: {name} has to know who listened to what, and report lines do not "
                "say; telemetry (records: play_events) does. Reports can be shared by pro_rata or "
                "stream_threshold"
            )
        if self.keep_listening:
            raise ValueError("keep_listening is for telemetry; report lines name no listeners")
        return self

    @property
    def keeps_listening(self) -> bool:
        """Whether plays are kept by listener."""
        return self.keep_listening or self.allocation.needs_listening

    @property
    def has_pool(self) -> bool:
        """Whether usage of this feed shares money that comes apart from it."""
        return self.pool is not None or self.pool_source is not None or self.pools_in_reports

    def severity(self, check: str) -> Severity:
        """What a finding of a check does: block what comes after, warn, or nothing."""
        return self.checks.get(check, REPORT_CHECKS.get(check, "block"))

    @property
    def window_length(self) -> timedelta:
        """Events are cut into windows; a report's partition is one window."""
        if self.records is RecordKind.PLAY_EVENTS:
            return timedelta(minutes=self.window_minutes)
        return timedelta(days=31)

    def partitions(self, within: Partition, now: datetime) -> list[Partition]:
        """The feed's partitions inside another that have ended by ``now``."""
        start = max(within.window.start, self.cadence.floor(self.start))
        end = min(within.window.end, self.end or within.window.end)
        return [
            partition
            for partition in partitions_between(self.cadence, start, end)
            if partition.window.end <= now
        ]


class CatalogConfig(_Configured):
    """Where the master catalog is.

    Attributes:
        folder: of CSV files, relative to the project's home.
        missing_shares: what a recording without any share row earns for whom: ``held`` keeps the
            money until shares are given, ``simulated`` makes splits up (for trying things out).
    """

    folder: str = "catalog"
    missing_shares: Literal["held", "simulated"] = "held"


class DeskConfig(_Configured):
    """How people decide about open usage.

    Attributes:
        four_eyes_above: currency → the money at stake above which another person has to confirm.
    """

    four_eyes_above: dict[Currency, ConfiguredAmount] = {}


class DriftConfig(_Configured):
    """What may change between the catalog and what was paid or is used, and what more does.

    Attributes:
        severity: whether what is above a limit warns, or blocks the payout.
        money_moved_max: currency → money of a month paid before that changes in the catalog may
            move to others; none may where nothing is said.
        disagreeing_fraction_max: of a partition's units, those whose ISRC has another title in the
            catalog.
    """

    severity: Severity = "warn"
    money_moved_max: dict[Currency, ConfiguredAmount] = {}
    disagreeing_fraction_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.02")


_PROJECT_ASSETS = frozenset(
    {
        "catalog",
        "closing",
        "contracts",
        "deliveries",
        "ledger",
        "payouts",
        "statements",
        "unfinished",
    }
)


class ClosingConfig(_Configured):
    """What an accounting period may still have open when it is closed.

    Attributes:
        suspense_fraction_max: of each currency's money, what may be in suspense.
        held_fraction_max: of each currency's money, what may be held for want of terms.
    """

    suspense_fraction_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.05")
    held_fraction_max: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.05")


class Project(_Configured):
    """A project's configuration, ``feeds.yaml``."""

    catalog: CatalogConfig = CatalogConfig()
    desk: DeskConfig = DeskConfig()
    drift: DriftConfig = DriftConfig()
    closing: ClosingConfig = ClosingConfig()
    feeds: Annotated[list[Feed], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [feed.name for feed in self.feeds]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"feed names must be unique; repeated: {', '.join(repeated)}")
        if reserved := sorted(_PROJECT_ASSETS.intersection(names)):
            raise ValueError(f"reserved as asset names: {', '.join(reserved)}")
        return self

    @model_validator(mode="after")
    def _no_folder_is_read_twice(self) -> Self:
        sources = [source for feed in self.feeds for source in (feed.source, feed.pool_source)]
        folders = [
            "/".join(part for part in source.folder.split("/") if part not in {"", "."})
            for source in sources
            if isinstance(source, InboxSource)
        ]
        if repeated := sorted({folder for folder in folders if folders.count(folder) > 1}):
            raise ValueError(
                f"two feeds would each take every file of {', '.join(repeated)}, and pay it twice; "
                "give each its own folder"
            )
        return self

    def feed(self, name: str) -> Feed:
        """The feed with this name.

        Raises:
            KeyError: if there is none.
        """
        return next(feed for feed in self.feeds if feed.name == name)

    @property
    def start(self) -> datetime:
        """When the first feed starts."""
        return min(feed.start for feed in self.feeds)
