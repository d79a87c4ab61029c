"""What can be set on a Kinesis queue, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tq.clock import seconds, to_instant
from tq.errors import ConfigurationError, InvalidInputError

from .position import HORIZON, since

__all__ = ["KinesisSettings"]

_WAY_OUT = "give kinesis://stream?region=eu-west-1"
_START = 'give "TRIM_HORIZON", "LATEST", or an aware datetime'


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisSettings:
    """Which stream, and how it is written and read.

    Raises:
        InvalidInputError: a setting is refused; it says which, what was given, and what to give instead.
    """

    stream: str
    region: str = ""
    """ "" for that of the session."""
    endpoint: str = ""
    """Address of another server than that of AWS."""
    group: str = "tq"
    """Workers of one group share the stream; each group reads all of it."""
    start: str | datetime = HORIZON
    """Where a group begins that has never read the stream."""
    lease: float = 10.0
    """Seconds after which the shards of a worker that is heard of no more go to others."""
    hand_over: float = 30.0
    """Seconds for which a shard that goes to another worker waits for what runs of it."""
    read_interval: float = 0.2
    """Least seconds between two reads of a shard: Kinesis allows five a second, for all groups together."""
    poll_interval: float = 1.0
    """Seconds after which an idle worker looks again."""
    list_interval: float = 60.0
    """Seconds after which the shards are listed again, besides when one has ended."""
    window_records: int = 2_000
    """Records of a shard that were read and have not ended; no more are read meanwhile."""
    window_bytes: int = 32 << 20
    """The same in bytes."""
    record_size: int = 1 << 20
    """Bytes of the largest record that the stream takes."""
    together: int = 1
    """Tasks without a key that may share a record: cheaper, and spread over fewer shards."""
    attempts: int = 5
    """Tries for a record that the stream does not take."""
    on_failure: Literal["park_key", "skip"] = "park_key"
    """Whether tasks wait for an earlier one of their key that is to be retried, or are run meanwhile."""
    stranger_after: float = 30.0
    """Seconds after which a task of a queue that is not served where its shard is read goes to the store."""
    redelivery: float = 86_400.0
    """Seconds for which the stream keeps records: after a loss of checkpoints it delivers them all again."""
    timeout: float = 10.0
    """Seconds after which an answer is no longer waited for."""

    def __post_init__(self) -> None:
        for name in ("stream", "group"):
            if not getattr(self, name):
                raise InvalidInputError(name, getattr(self, name), "give a name")
        for name in (
            "lease",
            "read_interval",
            "poll_interval",
            "list_interval",
            "timeout",
            "stranger_after",
            "redelivery",
        ):
            seconds(name, getattr(self, name), zero=False)
        seconds("hand_over", self.hand_over)
        for name in ("window_records", "window_bytes", "record_size", "together", "attempts"):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidInputError(name, value, "give a whole number, 1 or more")
        if self.on_failure not in {"park_key", "skip"}:
            raise InvalidInputError("on_failure", self.on_failure, 'give "park_key" or "skip"')
        self.place_to_start(0.0)

    def place_to_start(self, now: float) -> str:
        """Return the place at which a new group begins; "latest" is an instant, so that it stays where it was.

        Raises:
            InvalidInputError: it is none.
        """
        if self.start == HORIZON:
            return HORIZON
        if self.start == "LATEST":
            return since(now)
        try:
            when = datetime.fromisoformat(self.start) if isinstance(self.start, str) else self.start
        except ValueError as error:
            raise InvalidInputError("start", self.start, _START) from error
        return since(to_instant("start", when))

    @property
    def place(self) -> str:
        """Where the stream is, for messages."""
        where = self.endpoint or self.region or "the region of its session"
        return f"Kinesis stream {self.stream} at {where}"

    @property
    def root(self) -> str:
        """The name under which leases are kept."""
        return f"{self.group}:{self.stream}"

    @classmethod
    def parse(cls, url: str, **options: Any) -> Self:
        """Read `kinesis://stream?region=eu-west-1`; every other setting may stand there, too.

        Raises:
            InvalidInputError: it is no such address, or an option is refused.
            ConfigurationError: an option is unknown.
        """
        parts = urlsplit(url)
        name = parts.netloc
        if parts.scheme != "kinesis" or not name or "@" in name or parts.path.strip("/") or parts.fragment:
            shown = f"{parts.scheme}://{name.rpartition('@')[2]}{parts.path}"  # what stands before an @ may be secret
            raise InvalidInputError("url", shown, _WAY_OUT)
        given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True)) | options
        known = {it.name: str(it.type) for it in fields(cls)}
        for option, value in given.items():
            if option not in known or option == "stream":
                raise ConfigurationError(f"kinesis:// takes no option {option!r}; it takes {', '.join(sorted(known))}")
            if isinstance(value, str):
                given[option] = _read(option, value, known[option])
        return cls(stream=unquote(name), **given)


def _read(name: str, text: str, kind: str) -> object:
    try:
        return int(text) if kind == "int" else float(text) if kind == "float" else text
    except ValueError as error:
        raise InvalidInputError(name, text, "give a number") from error
