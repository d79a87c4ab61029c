"""The wire format: how a task is written into bytes, and read back by whatever version meets it.

A body is two lines. The first is a JSON object with a format number under "v"; fields at their default are left out,
so that a body stays small and a new field needs no new number. The second is the payload's JSON, exactly as the door
dumped it: whoever knows its type validates it straight from the bytes, and whoever only passes it on never parses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import orjson

from tq.clock import FIRST, LAST, to_datetime, to_instant
from tq.errors import PayloadError, UnknownFormatError, WireError
from tq.ids import is_new
from tq.model import Delivery, Entity, Message, Projection, Task, TaskStatus
from tq.model.named import make
from tq.model.task import amended, trusted

__all__ = [
    "FORMAT",
    "amend_body",
    "decode_body",
    "decode_projection",
    "dumps",
    "encode_projection",
    "entity_tasks",
    "is_made",
    "loads",
    "message_of",
    "stats_of",
    "task_of",
]

FORMAT = 1

_NOTHING: Mapping[str, Any] = {}


def dumps(value: object) -> bytes:
    """Return JSON of plain values.

    Raises:
        PayloadError: the value cannot be written as JSON.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError) as error:
        raise PayloadError("value", value, f"give plain JSON values: {error}") from error


def loads(data: bytes) -> Any:
    """Return the values of JSON that tq itself wrote.

    Raises:
        WireError: it is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise WireError(f"not JSON: {error}", data) from error


def decode_body(data: bytes) -> dict[str, Any]:
    """Return the fields of a body; "payload" is the payload's JSON.

    Raises:
        WireError: it is no task of ours, and no version of tq will ever read it.
        UnknownFormatError: a newer version of tq wrote it.
    """
    head, line_end, payload = data.partition(b"\n")
    try:
        fields: dict[str, Any] = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise WireError(f"the body of a message is not JSON: {error}", data) from error
    if type(fields) is not dict or "v" not in fields:
        raise WireError("the body of a message is not a task", data)
    if fields["v"] != FORMAT:
        raise UnknownFormatError(fields["v"], data)
    type_, queue = fields.get("type"), fields.get("queue")
    if type(type_) is not str or not type_ or type(queue) is not str or not queue or not line_end:
        raise WireError("the body of a message lacks type, queue or payload", data)
    created_at = fields.get("created_at")
    plain = len(fields) == _PLAIN and "id" in fields and type(created_at) is float and 0.0 <= created_at <= LAST
    if not plain:
        for name, value in fields.items():
            fits = _FITS.get(name)
            if fits is not None and not fits(value):
                raise WireError(f"the body of a message has a {name} that is none: {value!r:.100}", data)
    fields["payload"] = payload
    return fields


def _is_name(value: object) -> bool:
    return type(value) is str and value != ""


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_instant(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and FIRST <= value <= LAST


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and value >= 0


def _is_flag(value: object) -> bool:
    return type(value) is bool


def _is_count(value: object) -> bool:
    return isinstance(value, int) and type(value) is not bool and value >= 0


def _is_entity(value: object) -> bool:
    return isinstance(value, list) and len(entity := cast("list[object]", value)) == 2 and all(map(_is_name, entity))


def _is_object(value: object) -> bool:
    return type(value) is dict


def _is_metadata(value: object) -> bool:
    """Tell whether what tq reads in it is there in the form in which tq writes it."""
    if type(value) is not dict:
        return False
    fields = cast("dict[str, Any]", value)
    context, flow = fields.get("log_context"), fields.get("flow_meta")
    return (flow is None or _is_object(flow)) and (context is None or _is_texts(context))


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, cast("dict[str, object]", value).values()))


_PLAIN = 5
"""Fields of a body that says v, id, type, queue and created_at: for these one look will do instead of one for each."""

_FITS: Mapping[str, Callable[[object], bool]] = {
    "created_at": _is_instant,
    "execute_at": _is_instant,
    "expires_at": _is_instant,
    "force_store": _is_flag,
    "retries": _is_count,
    "retry_after": _is_duration,
    "partition_key": _is_text,
    "task_group": _is_text,
    "task_hash": _is_text,
    "entity": _is_entity,
    "metadata": _is_metadata,
    "stats": _is_object,
}
"""What whoever reads a body may rely on: a field that is there is of its kind."""


def amend_body(data: bytes, **fields: object) -> bytes:
    """Return a body with these fields instead of its own, its payload untouched.

    Raises:
        WireError: it is no task of ours.
        UnknownFormatError: a newer version of tq wrote it.
    """
    body = decode_body(data)
    payload = body.pop("payload")
    return b"%b\n%b" % (dumps({**body, **fields}), payload)


def task_of(body: Mapping[str, Any], delivery: Delivery | None = None, payload: object = None) -> Task[Any]:
    """Return the task that a decoded body describes, with the counters of its delivery and this payload."""
    entity = body.get("entity")
    stats: Mapping[str, Any] = body.get("stats", _NOTHING)
    generation = attempt = fence = 0
    task_id = body.get("id", "")
    if delivery is not None:
        message = delivery.message
        task_id, generation, attempt, fence = message.id, message.generation, message.attempt, delivery.fence
        if message.stats:
            stats = stats_of(message)
    return trusted(
        {
            "type": body["type"],
            "queue_id": body["queue"],
            "payload": payload,
            "id": task_id,
            "execute_at": _datetime(body.get("execute_at")),
            "expires_at": _datetime(body.get("expires_at")),
            "created_at": _datetime(body.get("created_at")),
            "retries": body.get("retries"),
            "retry_after": body.get("retry_after"),
            "force_store": body.get("force_store", False),
            "partition_key": body.get("partition_key"),
            "task_group": body.get("task_group"),
            "task_hash": body.get("task_hash"),
            "entity": None if entity is None else Entity(entity[0], entity[1]),
            "metadata": body.get("metadata", _NOTHING),
            "execution_stats": stats,
            "generation": generation,
            "attempt": attempt,
            "fence": fence,
        }
    )


def entity_tasks(messages: Iterable[Message]) -> Iterator[tuple[Task[Any], bytes]]:
    """Yield those tasks among these messages that name an entity, each with its payload as JSON."""
    for message in messages:
        if b'"entity":[' in message.body:  # spares decoding those that surely name none
            body = decode_body(message.body)
            if body.get("entity") is not None:
                yield amended(task_of(body), id=message.id, generation=message.generation), body["payload"]


def _datetime(instant: float | None) -> Any:
    return None if instant is None else to_datetime(instant)


def stats_of(message: Message) -> dict[str, Any]:
    """Return the execution stats that a message carries; of bytes that are none, none: no task may stay for them."""
    try:
        stats: object = loads(message.stats) if message.stats else {}
    except WireError:
        return {}
    return cast("dict[str, Any]", stats) if type(stats) is dict else {}


def message_of(task: Task[Any], payload: bytes, now: float, **said: object) -> Message:
    """Return the message that carries a checked task, new, and due at its `execute_at` or at `now`.

    `payload` is JSON already; `said` are fields of the body that stand in for what the task says.
    """
    body: dict[str, Any] = {"v": FORMAT, "id": task.id, "type": task.type, "queue": task.queue_id}
    run_at = now
    if task.created_at is not None:
        body["created_at"] = task.created_at.timestamp()
    if task.execute_at is not None:
        body["execute_at"] = run_at = to_instant("execute_at", task.execute_at)
    if task.expires_at is not None:
        body["expires_at"] = task.expires_at.timestamp()
    if task.retries is not None:
        body["retries"] = task.retries
    if task.retry_after is not None:
        after = task.retry_after
        body["retry_after"] = after if isinstance(after, int | float) else after.total_seconds()
    if task.force_store:
        body["force_store"] = True
    if task.partition_key is not None:
        body["partition_key"] = task.partition_key
    if task.task_group is not None:
        body["task_group"] = task.task_group
    if task.task_hash is not None:
        body["task_hash"] = task.task_hash
    if task.entity is not None:
        body["entity"] = [task.entity.type, task.entity.id]
    if task.metadata:
        body["metadata"] = dict(task.metadata)
    if task.execution_stats:
        body["stats"] = dict(task.execution_stats)
    body |= said
    stats = dumps(body["stats"]) if "stats" in body else b""
    data = b"%b\n%b" % (dumps(body), payload)
    return make(Message, (body["id"], task.queue_id, task.type, data, run_at, 0, 0, "", stats, 0))


def is_made(message: Message) -> bool:
    """Tell whether the id was made for this very task, so that nobody can add it a second time."""
    if not is_new(message.id):
        return False
    return _GIVEN not in message.body or _GIVEN not in message.body.partition(b"\n")[0]


_GIVEN = b'"given":true'
"""Stands in the body of a task whose producer gave it an id of the form of those that are made here."""


def encode_projection(row: Projection) -> bytes:
    """Return a row as a note for the outbox."""
    return dumps([*row[:9], _text(row.payload), _text(row.result), row.error])


def decode_projection(data: bytes) -> Projection:
    """Return the row of a note."""
    fields = loads(data)
    payload, result = (None if part is None else part.encode() for part in fields[9:11])
    return Projection._make([*fields[:5], TaskStatus(fields[5]), *fields[6:9], payload, result, fields[11]])


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()
