"""A task's log context: its scope, its limits, and how it is written."""

import asyncio
import io
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tq.errors import InvalidInputError
from tq.logcontext import (
    ContextLogger,
    LogContextFilter,
    LogContextFormatter,
    bind,
    check_log_context,
    child_logger,
    get_log_context,
    log_context,
    merge,
    render,
    reset,
    run_with_log_context,
)
from tq.model import Task
from tq.runner.actions import Actions, Attempt
from tq.runner.outside import Outside

RUNTIME = {"task_id": "t-1", "task_type": "images.resize", "worker_id": "w-1"}


class Written:
    """A logger of its own with one handler, and the lines that it wrote."""

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter or logging.Formatter("%(message)s"))
        self.logger = logging.Logger("test", logging.DEBUG)  # noqa: LOG001 -- a logger that no other test sees
        self.logger.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def written() -> Written:
    return Written()


# --- the scope --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("LOG-01")
def test_a_scope_is_seen_inside_and_gone_after() -> None:
    assert get_log_context() == {}
    assert run_with_log_context({"tenant": "t-9"}, lambda: dict(get_log_context())) == {"tenant": "t-9"}
    assert get_log_context() == {}


@pytest.mark.spec("LOG-01")
def test_a_scope_is_gone_after_an_exception() -> None:
    def fails() -> None:
        raise ValueError(get_log_context()["tenant"])

    with pytest.raises(ValueError, match="t-9"):
        run_with_log_context({"tenant": "t-9"}, fails)
    assert get_log_context() == {}


@pytest.mark.spec("LOG-01")
def test_a_nested_scope_replaces_and_then_restores() -> None:
    with log_context({"a": "1"}):
        with log_context({"b": "2"}):
            assert get_log_context() == {"b": "2"}
        assert get_log_context() == {"a": "1"}
    assert get_log_context() == {}


@pytest.mark.spec("LOG-01")
async def test_a_scope_lasts_through_awaits() -> None:
    async def body() -> dict[str, str]:
        await asyncio.sleep(1)
        inner = asyncio.create_task(below())
        return await inner

    async def below() -> dict[str, str]:
        await asyncio.sleep(1)
        return dict(get_log_context())

    work = run_with_log_context({"tenant": "t-9"}, body)
    assert get_log_context() == {}, "before it is awaited nothing is in force outside"
    assert await work == {"tenant": "t-9"}
    assert get_log_context() == {}


@pytest.mark.spec("LOG-01")
async def test_scopes_of_tasks_that_run_at_once_do_not_mix() -> None:
    async def body(name: str) -> str:
        with log_context({"name": name}):
            await asyncio.sleep(1)
            if name == "b":
                raise ValueError(name)
            await asyncio.sleep(1)
            return get_log_context()["name"]

    ended = await asyncio.gather(body("a"), body("b"), body("c"), return_exceptions=True)
    assert [str(end) for end in ended] == ["a", "b", "c"]


@pytest.mark.spec("LOG-01")
def test_what_the_caller_changes_later_does_not_show() -> None:
    store = {"tenant": "t-9"}
    with log_context(store):
        store["tenant"] = "somebody else"
        assert get_log_context() == {"tenant": "t-9"}


@pytest.mark.spec("LOG-01")
def test_bind_and_reset_do_what_a_scope_does() -> None:
    outer = bind({"a": "1"})
    inner = bind({"b": "2"})
    assert get_log_context() == {"b": "2"}
    reset(inner)
    assert get_log_context() == {"a": "1"}
    reset(outer)
    assert get_log_context() == {}


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("LOG-10")
def test_the_ten_alphabetically_first_keys_are_kept() -> None:
    given = {f"key-{letter}": letter for letter in "lkjihgfedcba"}
    kept, warnings = check_log_context(given)
    assert kept == {f"key-{letter}": letter for letter in "abcdefghij"}
    assert len(warnings) == 1
    assert "log_context" in warnings[0]
    assert "key-k, key-l" in warnings[0]


@pytest.mark.spec("LOG-10", "LOG-12")
def test_ten_keys_are_within_the_limit() -> None:
    given = {f"key-{number}": "x" for number in range(10)}
    assert check_log_context(given) == (given, [])


def filled(size: int, letter: str = "x") -> dict[str, str]:
    """Return a context whose compact JSON takes `size` bytes."""
    shell = len('{"key":""}')
    return {"key": letter * ((size - shell) // len(letter.encode()))}


@pytest.mark.spec("LOG-11", "LOG-12")
def test_a_kilobyte_is_kept_and_one_byte_more_is_dropped() -> None:
    assert check_log_context(filled(1024)) == (filled(1024), [])
    kept, warnings = check_log_context(filled(1025))
    assert kept is None
    assert len(warnings) == 1
    assert "log_context" in warnings[0]


@pytest.mark.spec("LOG-11")
def test_size_is_counted_in_bytes_not_in_characters() -> None:
    """D-60: 507 characters of two bytes fill the limit; 508 pass it."""
    assert check_log_context(filled(1024, "é"))[0] == filled(1024, "é")
    assert check_log_context(filled(1026, "é"))[0] is None


@pytest.mark.spec("LOG-11")
def test_size_is_measured_after_keys_were_cut() -> None:
    given = {f"a{number}": "x" for number in range(10)} | {"z": "x" * 2000}
    kept, warnings = check_log_context(given)
    assert kept == {f"a{number}": "x" for number in range(10)}
    assert len(warnings) == 1


@pytest.mark.spec("LOG-12")
def test_within_the_limits_nothing_changes() -> None:
    for given in ({}, {"tenant": "t-9", "path": "a]b\n"}):
        assert check_log_context(given) == (given, [])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("tenant", "metadata.log_context"),
        ({"tenant": 9}, "metadata.log_context['tenant']"),
        ({"tenant": None}, "metadata.log_context['tenant']"),
        ({9: "tenant"}, "metadata.log_context"),
        ({"tenant": "\ud800"}, "metadata.log_context"),
    ],
)
def test_what_is_no_mapping_of_strings_is_refused(given: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_log_context(given)
    assert refused.value.field == field


def test_children_take_their_parents_keys_as_defaults() -> None:
    assert merge({"tenant": "t-9", "step": "1"}, {"step": "2"}) == {"tenant": "t-9", "step": "2"}
    assert merge({"tenant": "t-9"}, None) == {"tenant": "t-9"}
    assert merge(None, {"step": "2"}) == {"step": "2"}
    assert merge({}, {}) == {}


# --- how it is written ------------------------------------------------------------------------------------------------


@pytest.mark.spec("LOG-14")
def test_groups_are_sorted_by_key() -> None:
    assert render({"tenant": "t-9", "request": "r-417"}) == " [request:r-417] [tenant:t-9]"
    assert render({}) == ""


@pytest.mark.spec("LOG-14")
def test_no_value_ends_its_group_or_starts_a_line() -> None:
    every = "".join(chr(code) for code in range(0x20)) + "\x7f]"
    assert render({"k": f"a{every}b"}) == f" [k:a{'_' * 34}b]"
    assert render({"k": " ~[é:"}) == " [k: ~[é:]"


@pytest.mark.spec("LOG-14", "LOG-15")
def test_the_formatter_writes_prefix_context_message() -> None:
    written = Written(LogContextFormatter(prefix="orders"))
    with log_context({"tenant": "t-9", "request": "r-1"}):
        written.logger.info("drawing %d", 7)
    written.logger.info("done")
    assert written.lines == ["[orders] [request:r-1] [tenant:t-9] drawing 7", "[orders] done"]


@pytest.mark.spec("LOG-15")
def test_the_formatter_takes_the_place_of_the_message_only() -> None:
    written = Written(LogContextFormatter("%(levelname)s|%(message)s|%(name)s"))
    plain = logging.StreamHandler(written.stream)
    written.logger.addHandler(plain)
    with log_context({"tenant": "t-9"}):
        written.logger.warning("careful")
    written.logger.info("")
    assert written.lines == ["WARNING|[tenant:t-9] careful|test", "careful", "INFO||test", ""]


@pytest.mark.spec("LOG-14")
def test_the_filter_gives_every_record_its_context(written: Written) -> None:
    written.handler.addFilter(LogContextFilter())
    written.handler.setFormatter(logging.Formatter("%(levelname)s%(log_context)s %(message)s %(log_fields)s"))
    with log_context({"tenant": "t-9"}):
        written.logger.info("one")
        child_logger({"step": "2"}, parent=written.logger).info("two")
    assert written.lines == [
        "INFO [tenant:t-9] one {'tenant': 't-9'}",
        "INFO [step:2] [tenant:t-9] two {'tenant': 't-9', 'step': '2'}",
    ]


def test_a_record_that_is_formatted_elsewhere_keeps_its_context() -> None:
    """As a queue handler does: it filters where the record is made and formats in another thread."""
    record = logging.LogRecord("test", logging.INFO, __file__, 1, "hello", None, None)
    with log_context({"tenant": "t-9"}):
        assert LogContextFilter().filter(record)
    assert LogContextFormatter().format(record) == "[tenant:t-9] hello"
    assert record.message == "hello", "what others read of it is untouched"


# --- loggers ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("LOG-13")
def test_the_log_of_actions_writes_the_tasks_context(caplog: pytest.LogCaptureFixture) -> None:
    task: Task[None] = Task(
        type="images.resize", id="t-1", metadata={"log_context": {"tenant": "t-9", "task_id": "evil"}}
    )
    attempt = Attempt(task)
    actions = Actions({"t-1": attempt}, attempt, cast("Outside", SimpleNamespace(worker_id="w-1")), "memory:default")
    with caplog.at_level(logging.INFO):
        actions.log.info("drawing")
    assert caplog.messages == ["[task_id:t-1] [task_type:images.resize] [tenant:t-9] [worker_id:w-1] drawing"]


def test_the_logger_of_a_task_writes_its_context_before_the_message(written: Written) -> None:
    log = child_logger({"tenant": "t-9"}, RUNTIME, parent=written.logger)
    log.info("drawing %s", "100%")
    log.info("100% done")
    assert written.lines == [
        "[task_id:t-1] [task_type:images.resize] [tenant:t-9] [worker_id:w-1] drawing 100%",
        "[task_id:t-1] [task_type:images.resize] [tenant:t-9] [worker_id:w-1] 100% done",
    ]


def test_percent_signs_in_a_context_are_no_placeholders(written: Written) -> None:
    log = child_logger({"share": "50%s"}, parent=written.logger)
    log.info("drawing %d", 7)
    log.info("done")
    assert written.lines == ["[share:50%s] drawing 7", "[share:50%s] done"]


def test_the_logger_of_a_group_writes_runtime_keys_only(written: Written) -> None:
    child_logger({}, {"worker_id": "w-1"}, parent=written.logger).info("all of them")
    assert written.lines == ["[worker_id:w-1] all of them"]


def test_a_user_cannot_shadow_what_tq_knows(written: Written) -> None:
    """D-60: neither from the task's context, nor from a child logger, nor by what is in force."""
    evil = {"task_id": "evil", "worker_id": "evil", "tenant": "t-9"}
    log = child_logger(evil, RUNTIME, parent=written.logger)
    with log_context(evil):
        log.info("one")
        log.child(evil).info("two")
        child_logger(evil, evil, parent=log).info("three")
    with log_context({**RUNTIME, "tenant": "t-9"}):
        child_logger(evil, parent=written.logger).info("four")
    line = "[task_id:t-1] [task_type:images.resize] [tenant:t-9] [worker_id:w-1]"
    assert written.lines == [f"{line} {word}" for word in ("one", "two", "three", "four")]


@pytest.mark.spec("LOG-15")
def test_a_child_logger_adds_what_its_parent_does_not_get(written: Written) -> None:
    parent = child_logger({"tenant": "t-9"}, parent=written.logger, prefix="orders")
    child = child_logger({"step": "2"}, parent=parent)
    child.info("child")
    parent.child({"step": "3"}).info("other child")
    child.child({"step": "4"}).info("grandchild")
    parent.info("parent")
    assert written.lines == [
        "[orders] [step:2] [tenant:t-9] child",
        "[orders] [step:3] [tenant:t-9] other child",
        "[orders] [step:4] [tenant:t-9] grandchild",
        "[orders] [tenant:t-9] parent",
    ]


@pytest.mark.spec("LOG-15")
def test_a_child_logger_wins_over_what_is_in_force(written: Written) -> None:
    log = child_logger({"step": "own"}, parent=written.logger)
    with log_context({"step": "ambient", "tenant": "t-9"}):
        log.info("hello")
    assert written.lines == ["[step:own] [tenant:t-9] hello"]


@pytest.mark.spec("LOG-15")
def test_without_context_only_prefix_and_message_are_written(written: Written) -> None:
    child_logger({}, parent=written.logger, prefix="orders").info("hello")
    child_logger({}, parent=written.logger).info("hello")
    assert written.lines == ["[orders] hello", "hello"]


def test_the_context_is_written_once(written: Written) -> None:
    written.handler.setFormatter(LogContextFormatter())
    with log_context({"tenant": "t-9"}):
        child_logger({"step": "2"}, parent=written.logger).info("hello")
    assert written.lines == ["[step:2] [tenant:t-9] hello"]


def test_the_line_of_the_caller_is_recorded(written: Written) -> None:
    written.handler.setFormatter(logging.Formatter("%(funcName)s %(extra_key)s"))
    child_logger({}, parent=written.logger).info("hello", extra={"extra_key": "kept"})
    assert written.lines == ["test_the_line_of_the_caller_is_recorded kept"]


class Counting(dict[str, str]):
    """A context that counts how often it is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        type(self).looks += 1
        return super().__iter__()

    def keys(self) -> Any:
        type(self).looks += 1
        return super().keys()


@pytest.mark.spec("LOG-16")
def test_what_is_switched_off_is_not_computed(written: Written) -> None:
    Counting.looks = 0
    written.logger.setLevel(logging.WARNING)
    written.handler.setFormatter(LogContextFormatter())
    log = ContextLogger(written.logger, Counting(step="2"), Counting())
    token = bind(Counting(tenant="t-9"))
    try:
        log.info("not written")
        written.logger.info("not written")
        assert Counting.looks == 0
        log.error("written")
        written.logger.error("written")
    finally:
        reset(token)
    assert Counting.looks > 0
    assert written.lines == ["[step:2] [tenant:t-9] written", "[tenant:t-9] written"]
