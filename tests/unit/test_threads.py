"""Plain functions run in daemon threads, no more than there may be."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import wait

import pytest

from tq.threads import Threads

LONG = 30.0


def test_a_call_brings_its_value_or_its_error() -> None:
    threads = Threads(2, "t")
    assert threads.submit(divmod, 7, 2).result(LONG) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(LONG)
    with pytest.raises(SystemExit):
        threads.submit(sys.exit).result(LONG)
    threads.shutdown()


def test_as_many_run_at_once_as_there_may_be_and_the_others_wait() -> None:
    threads, go, running = Threads(3, "t"), threading.Event(), list[str]()
    all_three = threading.Barrier(4)

    def body() -> None:
        running.append(threading.current_thread().name)
        all_three.wait(LONG)
        go.wait(LONG)

    first = [threads.submit(body) for _ in range(3)]
    all_three.wait(LONG)
    waiting = [threads.submit(threading.get_ident) for _ in range(20)]
    assert not any(call.done() for call in waiting)
    assert sorted(running) == ["t-1", "t-2", "t-3"]
    go.set()
    assert not wait(first, LONG).not_done
    assert not wait(waiting, LONG).not_done
    threads.shutdown()


def test_a_free_thread_is_used_before_another_one_is_made() -> None:
    threads = Threads(50, "t")
    idents = set[int]()
    for _ in range(20):
        idents.add(threads.submit(threading.get_ident).result(LONG))
    assert len(idents) == 1
    threads.shutdown()


def test_after_a_shutdown_nothing_is_taken_and_what_waited_is_run_or_dropped() -> None:
    for dropped in (False, True):
        threads, go, began = Threads(1, "t"), threading.Event(), threading.Event()

        def body(go: threading.Event = go, began: threading.Event = began) -> str:
            began.set()
            go.wait(LONG)
            return "ran"

        running = threads.submit(body)
        assert began.wait(LONG)
        waiting = threads.submit(body)
        threads.shutdown(cancel_futures=dropped)
        with pytest.raises(RuntimeError, match="shut down"):
            threads.submit(body)
        go.set()
        assert running.result(LONG) == "ran"
        if dropped:
            assert waiting.cancelled()
        else:
            assert waiting.result(LONG) == "ran"


def test_a_call_that_was_cancelled_before_its_turn_is_not_made() -> None:
    threads, go, made = Threads(1, "t"), threading.Event(), list[int]()
    threads.submit(go.wait, LONG)
    second = threads.submit(made.append, 1)
    assert second.cancel()
    go.set()
    threads.submit(made.append, 2).result(LONG)
    assert made == [2]
    threads.shutdown()


def test_a_call_that_does_not_end_keeps_no_interpreter() -> None:
    script = "import time; from tq.threads import Threads; Threads(1, 't').submit(time.sleep, 3600)"
    subprocess.run([sys.executable, "-c", script], timeout=LONG, check=True)
