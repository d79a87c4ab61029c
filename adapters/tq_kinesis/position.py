"""Places in a shard: a sequence number, where reading starts before there is one, or the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tq.clock import to_datetime

__all__ = ["ENDED", "HORIZON", "iterator_after", "since", "up_to"]

HORIZON = "TRIM_HORIZON"
"""From the oldest record that the stream keeps."""
ENDED = "SHARD_END"
"""Everything in the shard has ended, and nothing more will come."""
_SINCE = "AT_TIMESTAMP "


def since(instant: float) -> str:
    """Return the place of the first record that came at this instant, or later."""
    return f"{_SINCE}{instant:.3f}"


def iterator_after(place: str) -> Mapping[str, Any]:
    """Return what asks Kinesis for an iterator that reads on from a place."""
    if place.startswith(_SINCE):
        return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": to_datetime(float(place.removeprefix(_SINCE)))}
    if place.isdigit():
        return {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": place}
    return {"ShardIteratorType": HORIZON}


def up_to(place: str, other: str) -> bool:
    """Tell whether a sequence number is at `other`, or before it. The numbers have up to 56 digits."""
    return other == ENDED or (place.isdigit() and other.isdigit() and int(place) <= int(other))
