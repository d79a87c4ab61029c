"""The stream itself: what Kinesis is asked, and what it answers, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, NamedTuple, Protocol

from tq.errors import BackendError

from .driver import new_config, new_session
from .errors import mapped
from .packing import Record
from .position import iterator_after
from .settings import KinesisSettings
from .topology import Shard

__all__ = ["Api", "Found", "Haul", "Stream", "opened_by"]

Answer = Mapping[str, Any]


class Api(Protocol):
    """A Kinesis client, by what is asked of it here: one of aioboto3, or of any aiobotocore."""

    async def put_records(self, *, StreamName: str, Records: Sequence[Answer]) -> Answer: ...  # noqa: N803 -- AWS names them
    async def get_records(self, *, ShardIterator: str, Limit: int) -> Answer: ...  # noqa: N803 -- as above
    async def get_shard_iterator(self, **asked: Any) -> Answer: ...
    async def list_shards(self, **asked: Any) -> Answer: ...


class Found(NamedTuple):
    """A record that was read."""

    position: str
    key: str
    data: bytes


class Haul(NamedTuple):
    """What one read brought."""

    records: Sequence[Found]
    next: str | None
    """The iterator that reads on; None where the shard was closed, and this is all."""
    behind: float
    """Seconds by which the reader is behind the newest record."""


Opener = Callable[[], AbstractAsyncContextManager[Api]]


def opened_by(settings: KinesisSettings, session: Any = None) -> Opener:
    """Return what opens a client by a session of aioboto3 or aiobotocore, or by one that is made here."""

    def opened() -> AbstractAsyncContextManager[Api]:
        using: Any = session if session is not None else new_session()
        make = getattr(using, "create_client", None) or using.client
        client: AbstractAsyncContextManager[Api] = make(
            "kinesis",
            region_name=settings.region or None,
            endpoint_url=settings.endpoint or None,
            config=new_config(settings.timeout),
        )
        return client

    return opened


class Stream:
    """One stream; a client is opened when it is first needed, and only what was opened here is closed here.

    Raises (every verb):
        BackendError: what went wrong, naming stream and region.
    """

    def __init__(self, settings: KinesisSettings, client: Api | None = None, opener: Opener | None = None) -> None:
        self.settings = settings
        self.name = settings.stream
        self._client = client
        self._opener = opener
        self._stack = AsyncExitStack()
        self._closed = False

    async def _api(self) -> Api:
        if self._closed:
            raise BackendError(f"{self.settings.place} is closed here")
        if self._client is None:
            opener = self._opener or opened_by(self.settings)
            with mapped(self.settings.place):
                self._client = await self._stack.enter_async_context(opener())
        return self._client

    async def put(self, records: Sequence[Record]) -> list[str]:
        """Write records, as many as one request may hold; return the code of an error for each, or ""."""
        entries = [{"Data": record.data, "PartitionKey": record.key} for record in records]
        api = await self._api()
        with mapped(self.settings.place):
            answer = await api.put_records(StreamName=self.name, Records=entries)
        return [result.get("ErrorCode") or "" for result in answer["Records"]]

    async def iterator(self, shard: str, place: str) -> str:
        """Return an iterator that reads on after a place."""
        api = await self._api()
        with mapped(self.settings.place):
            answer = await api.get_shard_iterator(StreamName=self.name, ShardId=shard, **iterator_after(place))
        found: str = answer["ShardIterator"]
        return found

    async def read(self, iterator: str, limit: int) -> Haul:
        """Read on; an empty haul does not mean that there is nothing further on."""
        api = await self._api()
        with mapped(self.settings.place):
            answer = await api.get_records(ShardIterator=iterator, Limit=limit)
        records = [Found(it["SequenceNumber"], it["PartitionKey"], it["Data"]) for it in answer["Records"]]
        return Haul(records, answer.get("NextShardIterator") or None, (answer.get("MillisBehindLatest") or 0) / 1000)

    async def shards(self) -> list[Shard]:
        """Return every shard that the stream still lists, page by page."""
        api = await self._api()
        found: list[Shard] = []
        asked: dict[str, Any] = {"StreamName": self.name}
        while True:
            with mapped(self.settings.place):
                answer = await api.list_shards(**asked)
            for it in answer["Shards"]:
                parents = [it[name] for name in ("ParentShardId", "AdjacentParentShardId") if it.get(name)]
                closed = bool(it["SequenceNumberRange"].get("EndingSequenceNumber"))
                found.append(Shard(it["ShardId"], tuple(parents), closed))
            if not answer.get("NextToken"):
                return found
            asked = {"NextToken": answer["NextToken"]}

    async def close(self) -> None:
        """Close what was opened here."""
        self._closed = True
        await self._stack.aclose()
