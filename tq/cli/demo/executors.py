"""The demo's two executors: a step that speaks by return value and exception, a join that speaks through actions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tq.app.handles.dead import DeadLetter
from tq.ids import step_id
from tq.model import StepStatus, Task
from tq.ports import TaskStore
from tq.runner.actions import Actions
from tq.runner.registry import TaskQueuesManager

from .files import SourceFile
from .measure import Measures, measure
from .report import FailedFile, build_report, write_report
from .runs import JOIN, STEP, Run
from .settings import DemoSettings

__all__ = ["make_executors"]

KILLED_AS_OFTEN_AS_YOU_LIKE = 1_000_000
"""Elsewhere three crashes convict a task; here it is the reader who kills the process, and no file is to blame."""
LOOKED_UP_AT_ONCE = 500


def make_executors(settings: DemoSettings) -> TaskQueuesManager:
    """Return the executors of one folder; `store` and `run` come from the handler's lifespan."""
    executors = TaskQueuesManager()

    @executors.task(STEP, queue=settings.queue, max_crashes=KILLED_AS_OFTEN_AS_YOU_LIKE)
    def step(file: SourceFile) -> Measures:
        time.sleep(settings.slow)
        return measure(file)

    @executors.executor(
        JOIN,
        queue=settings.queue,
        max_crashes=KILLED_AS_OFTEN_AS_YOU_LIKE,
        retries=2,
        backoff=0.5,
        store_on_success=True,
    )
    async def join(task: Task[Mapping[str, Any]], actions: Actions, store: TaskStore, run: Run) -> None:
        files: list[Mapping[str, Any]] = []
        failed: dict[int, str] = {}
        async for entry in actions.flow_results(task):
            if entry["status"] is StepStatus.SUCCESS:
                files.append(entry["result"])
            else:
                failed[entry["step_index"]] = entry["error"] or str(entry["status"])
        paths = await _paths(store, run.flow, list(failed))
        failures = [FailedFile(paths.get(index, f"step {index}"), error) for index, error in failed.items()]
        now = datetime.now(UTC)
        started = task.created_at or now
        meta = {
            "run": run.number,
            "flow": run.flow,
            "folder": str(settings.folder),
            "started_at": started.isoformat(),
            "written_at": now.isoformat(),
            "seconds": round((now - started).total_seconds(), 3),
        }
        report = build_report(files, failures, meta)
        # Sorting out and synchronising 100,000 lines takes a second: the worker's loop goes on meanwhile.
        await asyncio.to_thread(write_report, report, settings.report)
        actions.success(task, {"report": str(settings.report), **report["totals"]})

    return executors


async def _paths(store: TaskStore, flow: str, indexes: Sequence[int]) -> dict[int, str]:
    """Return the paths of steps that failed: an error says what happened, the dead letter to which file."""
    found: dict[int, str] = {}
    for start in range(0, len(indexes), LOOKED_UP_AT_ONCE):
        ids = {step_id(flow, index): index for index in indexes[start : start + LOOKED_UP_AT_ONCE]}
        for id, record in (await store.records(list(ids))).items():
            payload = DeadLetter.of(record).payload
            if isinstance(payload, dict):
                found[ids[id]] = payload["path"]
    return found
