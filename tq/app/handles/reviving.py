"""Running ended tasks again, and telling so: a replay and a retry by hand open a generation, whose rows begin anew."""

from __future__ import annotations

from collections.abc import Sequence

from tq.flow import again_rows
from tq.model import Batch, Effects
from tq.ports import Backend

__all__ = ["revive"]


async def revive(backend: Backend, ids: Sequence[str], now: float) -> Sequence[str]:
    """Turn records that kept a body back into messages; return the ids that will run.

    Their rows are written after it: a death in between leaves the old row until the task runs, never one ahead of it.
    """
    await backend.finish(ids)
    records = await backend.store.records(ids)
    revived = await backend.store.revive(ids, now)
    rows = again_rows([records[id] for id in revived if id in records], now)
    if rows:
        await backend.commit(Batch(effects=[Effects(projections=rows)]))
    return revived
