"""The program's log: ordinary ``logging`` under ``royalty_assets``, with fields on every line.

What belongs here: the fields in force (a context variable), how a line is written, where lines
go. What is worth a line is said where it happens; the domain does not log. Nothing is configured
at import: without ``configure_logs`` lines reach whoever listens to the logger, as Dagster does.
No line holds a token, a header or the query of a URL.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

LOGGER_NAME = "royalty_assets"
FIELDS = ("feed", "stage", "partition", "batch", "run_id")
"""The fields of a line, where they are known; what else a line tells has its own names."""

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_fields: ContextVar[Mapping[str, str]] = ContextVar("royalty_assets_log_fields")


@contextmanager
def bound(**fields: str) -> Iterator[None]:
    """Put fields on every line that is logged within, by any module."""
    before = _fields.get({})
    _fields.set({**before, **fields})
    try:
        yield
    finally:
        # Not by token: a generator may be closed in another context than it began in.
        _fields.set(before)


class PlacedLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines begin with their place, and carry the fields in force.

    The place is in the message because some who listen, as Dagster's event log, keep nothing else.
    """

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        """See ``logging.LoggerAdapter``."""
        fields = dict(_fields.get({}))
        kwargs["extra"] = {"fields": fields | dict(kwargs.get("extra") or {})}
        place = "/".join(fields[name] for name in ("feed", "stage") if name in fields)
        place = " ".join(filter(None, [place, fields.get("partition", "")]))
        return (f"{place.replace('%', '%%')}: {msg}" if place else str(msg)), kwargs


def log_of(module: str) -> PlacedLogger:
    """The logger of a module, by its ``__name__``."""
    return PlacedLogger(logging.getLogger(module))


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the fields by their names."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {k: v for k, v in getattr(record, "fields", {}).items() if k not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Plain ASCII: some readers take U+0085 or U+2028 for the end of a line.
        return json.dumps(line, default=str)


class ReadableLines(logging.Formatter):
    """Lines for people: time in UTC, level, message. A message is one line, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        time = datetime.fromtimestamp(record.created, UTC)
        told = " ".join(record.getMessage().splitlines())
        line = f"{time:%Y-%m-%d %H:%M:%S}Z {record.levelname:<7} {told}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever stands for standard error now: progress bars put themselves there."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Not to be set."""


def configure_logs(wanted: LogFormat, level: LogLevel) -> None:
    """Write lines to standard error from now on; called again, it replaces what it did before."""
    logger = logging.getLogger(LOGGER_NAME)
    for handler in [each for each in logger.handlers if isinstance(each, _StandardError)]:
        logger.removeHandler(handler)
    handler = _StandardError()
    handler.setFormatter(JsonLines() if wanted == "json" else ReadableLines())
    logger.addHandler(handler)
    logger.setLevel(level)
