"""Leases: who holds a message, until when, and how a lease ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from tq.model import Hold, Rearm, Receipt, Renewal

from .connection import Connection
from .rows import numbers, select_in
from .waiting import promote, requeue

__all__ = ["Lease", "cancelled", "find", "hold", "lower_bounds", "move", "rearm", "release", "remove", "renew", "solo"]

E = TypeVar("E")


class Lease(NamedTuple):
    """The row of a message that is held under the receipt it was asked for by."""

    seq: int
    lane: str


def find(db: Connection, receipts: Iterable[Receipt]) -> dict[Receipt, Lease]:
    """Return the leases that these receipts hold; those that were lost are absent."""
    by_token: defaultdict[str, list[str]] = defaultdict(list)
    for id, token in receipts:
        by_token[token].append(id)
    return {
        Receipt(id, token): Lease(seq, lane)
        for token, ids in by_token.items()
        for id, seq, lane in select_in(
            db,
            "SELECT m.id, m.seq, m.lane FROM tq_messages m CROSS JOIN tq_leases l ON l.token = ? AND l.seq = m.seq"
            " WHERE m.id IN ({})",
            ids,
            token,
        )
    }


def remove(db: Connection, receipts: Sequence[Receipt]) -> list[Receipt]:
    """End messages for good; return the receipts that were lost.

    The hot path: what was handed out here, without a lane, is known by row, and goes with two statements.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    rest: list[Receipt] = []
    seqs = db.seqs
    for receipt in receipts:
        seq = seqs.pop(receipt[0], None)
        if seq is None:
            rest.append(receipt)
        else:
            groups[receipt[1]].append(seq)
    if groups:
        known = len(receipts) - len(rest)
        db.execute("SAVEPOINT leases")
        if _drop(db, groups) == known:
            db.execute("RELEASE leases")
            rows = [seq for group in groups.values() for seq in group]
            db.execute("DELETE FROM tq_messages WHERE seq IN (SELECT value FROM json_each(?))", (numbers(rows),))
        else:  # one was lost, or named twice: find out which, one by one
            db.execute("ROLLBACK TO leases")
            db.execute("RELEASE leases")
            rest = [*receipts]
    return _remove_found(db, rest) if rest else []


def _drop(db: Connection, groups: dict[str, list[int]]) -> int:
    if len(groups) > 16:  # slow tasks of many claims: few rows under each token
        pairs = [(token, seq) for token, group in groups.items() for seq in group]
        return db.executemany("DELETE FROM tq_leases WHERE token = ? AND seq = ?", pairs).rowcount
    return sum(
        db.execute(
            "DELETE FROM tq_leases WHERE token = ? AND seq IN (SELECT value FROM json_each(?))", (token, numbers(group))
        ).rowcount
        for token, group in groups.items()
    )


def _remove_found(db: Connection, receipts: Sequence[Receipt]) -> list[Receipt]:
    lost, held = _split(db, [(receipt, None) for receipt in receipts])
    ended = {receipt: lease for receipt, lease, _ in held}
    _end(db, ended)
    db.execute(
        "DELETE FROM tq_messages WHERE seq IN (SELECT value FROM json_each(?))",
        (numbers([lease.seq for lease in ended.values()]),),
    )
    promote(db, ended.values())
    return lost


def _end(db: Connection, found: dict[Receipt, Lease]) -> None:
    """Take the leases away; the messages stay."""
    db.executemany(
        "DELETE FROM tq_leases WHERE token = ? AND seq = ?",
        [(receipt.token, lease.seq) for receipt, lease in found.items()],
    )
    for receipt in found:
        db.seqs.pop(receipt.id, None)


def rearm(db: Connection, rearms: Sequence[tuple[Receipt, Rearm]]) -> list[Receipt]:
    """Give back, to be tried again; return the receipts that were lost."""
    lost, held = _split(db, rearms)
    _end(db, {receipt: lease for receipt, lease, _ in held})
    db.executemany(
        "UPDATE tq_messages SET run_at = ?, attempt = ?, stats = ?, unknown_since = ?, ended = ended + 1 WHERE seq = ?",
        [(*again, lease.seq) for _, lease, again in held],
    )
    requeue(db, [lease.seq for _, lease, _ in held])
    return lost


def hold(db: Connection, holds: Sequence[tuple[Receipt, Hold]]) -> list[Receipt]:
    """Keep, not to be handed out before the flow's end; return the receipts that were lost."""
    lost, held = _split(db, holds)
    _end(db, {receipt: lease for receipt, lease, _ in held})
    db.executemany(
        "UPDATE tq_messages SET held = ?, ended = ended + 1 WHERE seq = ?",
        [(ending.flow_id, lease.seq) for _, lease, ending in held],
    )
    return lost


def _split(db: Connection, asked: Sequence[tuple[Receipt, E]]) -> tuple[list[Receipt], list[tuple[Receipt, Lease, E]]]:
    found = find(db, [receipt for receipt, _ in asked])
    lost: list[Receipt] = []
    held: list[tuple[Receipt, Lease, E]] = []
    for receipt, ending in asked:
        lease = found.pop(receipt, None)  # named twice, it is lost the second time
        if lease is None:
            lost.append(receipt)
        else:
            held.append((receipt, lease, ending))
    return lost, held


def release(db: Connection, receipts: Sequence[Receipt]) -> None:
    """Give back, uncounted, due as they were."""
    found = find(db, receipts)
    _end(db, found)
    rows = [lease.seq for lease in found.values()]
    db.execute(
        "UPDATE tq_messages SET ended = ended + 1 WHERE seq IN (SELECT value FROM json_each(?))", (numbers(rows),)
    )
    requeue(db, rows)


def solo(db: Connection, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Note that these run alone; return the receipts that were lost."""
    found = find(db, receipts)
    db.executemany(
        "UPDATE tq_leases SET solo = 1 WHERE token = ? AND seq = ?",
        [(receipt.token, lease.seq) for receipt, lease in found.items()],
    )
    return [receipt for receipt in receipts if receipt not in found]


def renew(db: Connection, receipts: Sequence[Receipt], lease: float) -> Renewal:
    """Let leases run on from now; tell which were lost and which are to be cancelled."""
    found = find(db, receipts)
    until = db.now + lease
    db.executemany(
        "UPDATE tq_leases SET until = ? WHERE token = ? AND seq = ?",
        [(until, receipt.token, held.seq) for receipt, held in found.items()],
    )
    lower_bounds(db, {receipt.token for receipt in found}, until)
    told = cancelled(db, found)
    return Renewal(tuple(receipt for receipt in receipts if receipt not in found), told)


def lower_bounds(db: Connection, tokens: Iterable[str], until: float) -> None:
    """Keep the promise of `tq_claims`: none of a claim's leases ends before its row says."""
    db.executemany(
        "INSERT INTO tq_claims (token, until) VALUES (?, ?)"
        " ON CONFLICT (token) DO UPDATE SET until = excluded.until WHERE until > excluded.until",
        [(token, until) for token in sorted(tokens)],
    )


def cancelled(db: Connection, found: dict[Receipt, Lease]) -> tuple[Receipt, ...]:
    """Return those whose cancel was asked for."""
    if not found or db.execute("SELECT 1 FROM tq_messages WHERE cancelled_at > 0 LIMIT 1").fetchone() is None:
        return ()
    rows = {
        row[0]
        for row in db.execute(
            "SELECT seq FROM tq_messages WHERE cancelled_at > 0 AND seq IN (SELECT value FROM json_each(?))",
            (numbers([lease.seq for lease in found.values()]),),
        )
    }
    return tuple(receipt for receipt, lease in found.items() if lease.seq in rows)


def move(db: Connection, receipt: Receipt, token: str, lease: float) -> bool:
    """Put a lease under another token, to run on from now, if it is not there yet; False where it was lost."""
    holders = find(db, [receipt, Receipt(receipt.id, token)])
    if not holders:
        return False
    [(held, found)] = holders.items()
    until = db.now + lease
    db.execute(
        "UPDATE tq_leases SET token = ?, until = ? WHERE token = ? AND seq = ?",
        (token, until, held.token, found.seq),
    )
    lower_bounds(db, [token], until)
    return True
