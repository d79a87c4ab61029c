"""What a provider hears of messages, and of those who consume them."""

from __future__ import annotations

from typing import Any

import pytest

from tq import Actions, Backoff, FlowStep, Join, Task, TaskQueuesManager
from tq.clock import to_datetime
from tq.errors import AddTasksError, BackendUnavailableError
from tq.model import events
from tq.testing import Probe, VirtualClock
from tq.testing.harness import harness


def on_queues(*queues: str) -> TaskQueuesManager:
    executors = TaskQueuesManager()

    async def work(payload: Any) -> None: ...

    for queue in queues:
        executors.task("work", queue=queue)(work)
    return executors


@pytest.mark.spec("QLC-01", "QLC-02", "QLC-07")
async def test_every_message_is_told_once_it_was_added(url: str, clock: VirtualClock, probe: Probe) -> None:
    async with harness(on_queues("a", "b"), url=url, clock=clock, queue_lifecycle=probe) as h:
        later = to_datetime(clock.now() + 600)
        tasks: list[Task[Any]] = [
            Task(type="work", queue_id="a", payload={"x": "y"}),
            Task(type="work", queue_id="b", id="known", execute_at=later),
            Task(type="work", queue_id="a", force_store=True),
        ]
        ids = await h.add(*tasks)
        await h.add(Task(type="work", queue_id="b", id="known"))
        await clock.sleep(1)
        told = [seen.value for seen in probe.of("on_message_published")]
        assert [(it.message_id, it.queue_id, it.message_type) for it in told] == [
            (ids[0], "a", "work"),
            ("known", "b", "work"),
            (ids[2], "a", "work"),
        ], "what was there already was not added"
        assert {it.provider for it in told} == {url.removesuffix("://")}
        assert told[0].size_bytes > len(b'{"x":"y"}')
        assert probe.names() == ["on_message_published"] * 3


@pytest.mark.spec("QLC-07", "MQ-06")
@pytest.mark.parametrize("provider", ["memory", "immediate", "sqlite"])
async def test_providers_are_told_by_their_names(clock: VirtualClock, probe: Probe, provider: str) -> None:
    async with harness(on_queues("a"), url=f"{provider}://", clock=clock, queue_lifecycle=probe, workers=probe) as h:
        await h.run(Task(type="work", queue_id="a"))
        [published, consumed] = [
            seen.value for name in ("on_message_published", "on_message_consumed") for seen in probe.of(name)
        ]
        assert (published.provider, consumed.provider) == (provider, provider)
        assert [seen.value.consumer_id for seen in probe.of("on_consumer_started")] == [f"{provider}:a"]


@pytest.mark.spec("QLC-02")
async def test_what_could_not_be_added_is_not_told(
    url: str, clock: VirtualClock, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness(on_queues("a"), url=url, clock=clock, queue_lifecycle=probe) as h:

        async def away(*args: Any) -> Any:
            raise BackendUnavailableError("no answer")

        with monkeypatch.context() as patch:
            patch.setattr(h.handler.backend, "commit", away)
            with pytest.raises(AddTasksError):
                await h.add(Task(type="work", queue_id="a"))
        await clock.sleep(1)
        assert probe.events == []


@pytest.mark.spec("QLC-03", "MQ-06")
async def test_every_message_is_told_before_it_runs_whenever_it_is_handed_out(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    executors = TaskQueuesManager()

    @executors.executor("work", queue="q", retries=1, backoff=Backoff(base=10, jitter=0))
    async def work(task: Task[Any], actions: Actions) -> None:
        assert len(probe.of("on_message_consumed")) == task.attempt + 1
        if task.attempt == 0:
            raise ValueError("again")
        actions.success(task)

    async with harness(executors, url=url, clock=clock, queue_lifecycle=probe, lifecycle_mode="sync") as h:
        [task_id] = await h.add(work.task(None))
        await clock.sleep(30)
        await h.drain()
        await h.later(10)
        published = probe.of("on_message_published")[0].value
        told = [seen.value for seen in probe.of("on_message_consumed")]
        same: dict[str, Any] = {
            "queue_id": "q",
            "provider": h.handler.backend.queue.name,
            "message_type": "work",
            "message_id": task_id,
            "size_bytes": published.size_bytes,
        }
        assert told == [events.MessageConsumed(**same, age=30.0), events.MessageConsumed(**same, age=40.0)]
        await h.assert_quiet()


@pytest.mark.spec("QLC-02", "QLC-03")
@pytest.mark.parametrize("scheme", ["memory://", "immediate://"])
async def test_children_steps_and_joins_are_messages_like_any_other(
    clock: VirtualClock, probe: Probe, scheme: str
) -> None:
    executors = on_queues("default")

    @executors.executor("parent")
    async def parent(task: Task[Any], actions: Actions) -> None:
        actions.add_tasks([Task(type="work")])
        actions.start_flow([FlowStep("work"), FlowStep("work")], join=Join("join"))
        actions.success(task)

    @executors.executor("join")
    async def join(task: Task[Any], actions: Actions) -> None:
        actions.success(task)

    options: dict[str, Any] = {"queue_lifecycle": probe, "lifecycle_mode": "sync"}
    async with harness(executors, url=scheme, clock=clock, **options) as h:
        await h.run(parent.task(None))
        await h.handler.start_flow([FlowStep("work")], join=Join("join"))
        await h.drain()
        lives: dict[str, list[str]] = {}
        for seen in probe.events:
            lives.setdefault(seen.value.message_id, []).append(seen.name)
        assert len(lives) == 7
        consumed, published = "on_message_consumed", "on_message_published"
        if scheme == "memory://":
            assert set(map(tuple, lives.values())) == {(published, consumed)}
        else:
            assert all(sorted(life) == [consumed, published] for life in lives.values())


@pytest.mark.spec("QLC-04", "QLC-05", "MEM-07", "QLC-07")
async def test_a_worker_connects_to_each_queue_once_and_says_why_it_leaves(
    url: str, clock: VirtualClock, probe: Probe
) -> None:
    async with harness(on_queues("a", "b"), url=url, clock=clock, queue_lifecycle=probe) as h:
        await h.handler.start()
        await h.handler.start()
        await clock.sleep(1)
        provider = h.handler.backend.queue.name
        connected = [seen.value for seen in probe.events]
        assert connected == [
            events.ConsumerConnected(
                consumer_id=f"{provider}-{h.handler.worker_id}",
                consumer_type="worker",
                queue_id=queue,
                provider=provider,
                shard_id=None,
                parent_consumer_id=None,
            )
            for queue in ("a", "b")
        ]
        await h.handler.stop()
        await h.handler.stop()
        gone = [seen.value for seen in probe.events[2:]]
        assert [(it.queue_id, it.consumer_id, it.reason) for it in gone] == [
            (queue, f"{provider}-{h.handler.worker_id}", "shutdown") for queue in ("a", "b")
        ]
        assert probe.names()[2:] == ["on_consumer_disconnected"] * 2


async def test_what_nobody_is_there_to_run_is_not_connected(url: str, clock: VirtualClock, probe: Probe) -> None:
    async with harness(on_queues("a"), url=url, clock=clock, queue_lifecycle=probe) as h:
        await h.run(Task(type="work", queue_id="a"))
    await clock.sleep(1)
    assert set(probe.names()) == {"on_message_published", "on_message_consumed"}
