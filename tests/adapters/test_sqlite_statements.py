"""How statements are written: what one Python takes, all must."""

import re
from pathlib import Path

import pytest

import tq_sqlite
from tq.clock import Clock
from tq.model import Batch, Claim, Effects, Message, Record, Remove, Settlement, TaskStatus
from tq_sqlite import open_backend

FILES = sorted(Path(tq_sqlite.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_no_value_is_bound_by_number(file: Path) -> None:
    found = re.findall(r".*\?[0-9].*", file.read_text())
    assert not found, "Python 3.12 warns of ?1 bound from a sequence, 3.14 refuses it: write ?, or :name and a mapping"


@pytest.mark.spec("ADP-06", "ADP-08")
async def test_many_endings_and_a_claim_are_one_transaction(clock: Clock) -> None:
    backend, now = open_backend("sqlite://", clock=clock), clock.now()
    await backend.queue.add([Message(f"{number}", "q", "t", b"{}", now) for number in range(100)])
    hop = await backend.commit(Batch(), Claim(("q",), 60, "w:1", 30.0))
    endings = [
        Settlement(
            it.receipt,
            Remove(),
            Effects(records=(Record(it.message.id, "q", "t", TaskStatus.EXECUTED, now, now + 60, result=b"1"),)),
        )
        for it in hop.deliveries
    ]
    statements: list[str] = []
    backend.database._writer.set_trace_callback(statements.append)
    hop = await backend.commit(Batch(endings), Claim(("q",), 60, "w:2", 30.0))
    backend.database._writer.set_trace_callback(None)
    assert [it for it in statements if it.split()[0] in ("BEGIN", "COMMIT")] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert (len(await backend.store.records([it.receipt.id for it in endings])), len(hop.deliveries)) == (60, 40)
    await backend.close()
