"""A stream in memory that answers as Kinesis does: sequence numbers, shards that split and merge, limits, iterators.

It keeps the limits that servers for tests do not: five reads a second and shard, requests of 500 records and 5 MiB,
iterators that live for five minutes, lists of shards that come page by page.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from tq.clock import Clock

__all__ = ["KinesisDouble", "refusal"]

FIRST = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
HASHES = 1 << 128
PAGE = 2
READS = 5
LIFE = 300.0

Fault = Callable[[str, dict[str, Any]], Exception | None]


def refusal(code: str, message: str = "", status: int = 400) -> ClientError:
    """Return the exception that a client raises for an answer with this code."""
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Call")


class _Record(NamedTuple):
    number: int
    key: str
    data: bytes
    at: float


@dataclass
class _Shard:
    id: str
    low: int
    high: int
    parents: tuple[str, ...] = ()
    records: list[_Record] = field(default_factory=list[_Record])
    end: int | None = None
    trimmed: int = 0
    """Numbers below this are gone."""


class KinesisDouble:
    """One stream and its client.

    Args:
        clock: tells the time.
        shards: how many it begins with.
    """

    def __init__(self, clock: Clock, shards: int = 1) -> None:
        self.clock = clock
        self.shards: dict[str, _Shard] = {}
        self.fault: Fault = lambda _call, _asked: None
        """Asked before every call; what it returns is raised instead."""
        self.dropped: Callable[[dict[str, Any]], bool] = lambda _entry: False
        """Asked for every record that is put; True for one that the stream does not take."""
        self.calls: Counter[str] = Counter()
        self.requests: list[Sequence[dict[str, Any]]] = []
        self._number = FIRST
        self._reads: defaultdict[str, list[float]] = defaultdict(list)
        width = HASHES // shards
        for number in range(shards):
            self._open(number * width, HASHES - 1 if number == shards - 1 else (number + 1) * width - 1)

    def _open(self, low: int, high: int, *parents: str) -> str:
        id = f"shardId-{len(self.shards):012}"
        self.shards[id] = _Shard(id, low, high, parents)
        return id

    def _call(self, name: str, asked: dict[str, Any]) -> None:
        self.calls[name] += 1
        error = self.fault(name, asked)
        if error is not None:
            raise error

    # --- what clients call --------------------------------------------------------------------------------------------

    async def put_records(self, **asked: Any) -> dict[str, Any]:
        await self.clock.sleep(0.001)
        self._call("put_records", asked)
        entries: Sequence[dict[str, Any]] = asked["Records"]
        size = sum(len(it["Data"]) + len(it["PartitionKey"].encode()) for it in entries)
        if not 1 <= len(entries) <= 500 or size > 5 << 20:
            raise refusal("InvalidArgumentException", f"{len(entries)} records of {size} bytes")
        self.requests.append(entries)
        results: list[dict[str, str]] = []
        for it in entries:
            if not 1 <= len(it["PartitionKey"]) <= 256:
                raise refusal("ValidationException", "PartitionKey")
            if self.dropped(it):
                results.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"})
                continue
            place = int.from_bytes(md5(it["PartitionKey"].encode(), usedforsecurity=False).digest())
            shard = next(one for one in self.shards.values() if one.end is None and one.low <= place <= one.high)
            self._number += 7
            shard.records.append(_Record(self._number, it["PartitionKey"], it["Data"], self.clock.now()))
            results.append({"SequenceNumber": str(self._number), "ShardId": shard.id})
        return {"Records": results, "FailedRecordCount": sum("ErrorCode" in it for it in results)}

    async def get_shard_iterator(self, **asked: Any) -> dict[str, Any]:
        await self.clock.sleep(0.001)
        self._call("get_shard_iterator", asked)
        shard = self._shard(asked["ShardId"])
        match asked["ShardIteratorType"]:
            case "TRIM_HORIZON":
                after = 0
            case "AFTER_SEQUENCE_NUMBER":
                after = int(asked["StartingSequenceNumber"])
            case "AT_TIMESTAMP":
                since = asked["Timestamp"].timestamp()
                after = max((it.number for it in shard.records if it.at < since - 1e-6), default=0)
            case other:
                raise refusal("InvalidArgumentException", other)
        return {"ShardIterator": self._iterator(shard, after)}

    async def get_records(self, **asked: Any) -> dict[str, Any]:
        await self.clock.sleep(0.001)
        self._call("get_records", asked)
        id, after, made = asked["ShardIterator"].split("|")
        shard, now = self._shard(id), self.clock.monotonic()
        if now - float(made) > LIFE:
            raise refusal("ExpiredIteratorException")
        recent = self._reads[id] = [at for at in self._reads[id] if now - at < 1.0]
        if len(recent) >= READS:
            raise refusal("ProvisionedThroughputExceededException", f"more than {READS} reads a second")
        recent.append(now)
        left = [it for it in shard.records if it.number > int(after) and it.number >= shard.trimmed]
        found = left[: asked["Limit"]]
        behind = max(self.clock.now() - left[len(found)].at, 0.0) if len(left) > len(found) else 0.0
        answer: dict[str, Any] = {
            "Records": [
                {
                    "SequenceNumber": str(it.number),
                    "PartitionKey": it.key,
                    "Data": it.data,
                    "ApproximateArrivalTimestamp": it.at,
                }
                for it in found
            ],
            "MillisBehindLatest": round(behind * 1000),
        }
        if shard.end is None or len(left) > len(found):
            answer["NextShardIterator"] = self._iterator(shard, found[-1].number if found else int(after))
        return answer

    async def list_shards(self, **asked: Any) -> dict[str, Any]:
        await self.clock.sleep(0.001)
        self._call("list_shards", asked)
        start = int(asked.get("NextToken", 0))
        listed = sorted(self.shards.values(), key=lambda it: it.id)
        page = [self._described(shard) for shard in listed[start : start + PAGE]]
        more = {"NextToken": str(start + PAGE)} if start + PAGE < len(listed) else {}
        return {"Shards": page, **more}

    def _described(self, shard: _Shard) -> dict[str, Any]:
        ended = {} if shard.end is None else {"EndingSequenceNumber": str(shard.end)}
        names = zip(("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False)
        parents = {name: parent for name, parent in names if parent in self.shards}
        return {"ShardId": shard.id, **parents, "SequenceNumberRange": {"StartingSequenceNumber": "1", **ended}}

    def _shard(self, id: str) -> _Shard:
        if id not in self.shards:
            raise refusal("ResourceNotFoundException", id)
        return self.shards[id]

    def _iterator(self, shard: _Shard, after: int) -> str:
        return f"{shard.id}|{after}|{self.clock.monotonic()}"

    # --- what operators do --------------------------------------------------------------------------------------------

    @property
    def open(self) -> list[str]:
        """The shards that take records."""
        return [it.id for it in self.shards.values() if it.end is None]

    def split(self, id: str) -> tuple[str, str]:
        """Close a shard; two take its place."""
        shard = self._close(id)
        middle = (shard.low + shard.high) // 2
        return self._open(shard.low, middle, id), self._open(middle + 1, shard.high, id)

    def merge(self, one: str, other: str) -> str:
        """Close two neighbours; one takes their place."""
        low, high = sorted((self._close(one), self._close(other)), key=lambda it: it.low)
        assert low.high + 1 == high.low, "only neighbours are merged"
        return self._open(low.low, high.high, one, other)

    def _close(self, id: str) -> _Shard:
        shard = self.shards[id]
        self._number += 7
        shard.end = self._number
        return shard

    def forget(self, id: str) -> None:
        """Let a shard be so old that the stream does not list it any more."""
        del self.shards[id]

    def put_raw(self, data: bytes, key: str = "raw") -> None:
        """Put a record that is none of ours."""
        self._number += 7
        shard = next(it for it in self.shards.values() if it.end is None)
        shard.records.append(_Record(self._number, key, data, self.clock.now()))
