"""The adaptive strategy, by the constants of its specification."""

import pytest

from tq.clock import Clock
from tq.errors import InvalidInputError
from tq_kinesis.adaptive import AdaptiveSnapshot, Aimd, BatchResult


def good(shard: str = "s", *types: str) -> BatchResult:
    return BatchResult(shard_id=shard, record_count=1, success_count=1, task_types=types)


def bad(shard: str = "s", *types: str, failed: tuple[str, ...] = ()) -> BatchResult:
    return BatchResult(shard_id=shard, record_count=1, failure_count=1, task_types=types, failed_task_types=failed)


def tell(strategy: Aimd, *results: BatchResult) -> Aimd:
    for result in results:
        strategy.record_batch_result(result)
    return strategy


@pytest.mark.spec("AIMD-01")
def test_of_an_unknown_shard_it_thinks_nothing_special(clock: Clock) -> None:
    strategy = Aimd(clock)
    assert (strategy.get_batch_size("s"), strategy.get_processing_delay("s")) == (50, 5.0)
    assert not strategy.should_backoff("s")
    assert strategy.get_snapshot("s") == AdaptiveSnapshot(
        shard_id="s", current_batch_size=50, current_delay=5.0, hot_task_types=[]
    )


@pytest.mark.spec("AIMD-02", "AIMD-09")
def test_every_third_success_adds_a_step_up_to_the_most(clock: Clock) -> None:
    strategy = tell(Aimd(clock), good(), good())
    assert strategy.get_batch_size("s") == 50
    assert tell(strategy, *[good()] * 4).get_batch_size("s") == 70
    assert tell(Aimd(clock, add_step=5), *[good()] * 3).get_batch_size("s") == 55
    assert tell(strategy, *[good()] * 300).get_batch_size("s") == 500


@pytest.mark.spec("AIMD-03", "AIMD-09")
@pytest.mark.parametrize(
    "trouble",
    [bad(), BatchResult(shard_id="s", throttled=True), BatchResult(shard_id="s", poison_pill=True)],
    ids=["failure", "throttle", "poison"],
)
def test_trouble_halves_and_the_climb_begins_anew(clock: Clock, trouble: BatchResult) -> None:
    strategy = tell(Aimd(clock), good(), good(), trouble, good(), good())
    assert strategy.get_batch_size("s") == 25
    assert tell(strategy, good()).get_batch_size("s") == 35
    assert tell(Aimd(clock, decrease_factor=0.75), trouble).get_batch_size("s") == 37
    assert tell(strategy, *[trouble] * 9).get_batch_size("s") == 10


@pytest.mark.spec("AIMD-04")
def test_the_rest_grows_by_half_and_one_success_ends_it(clock: Clock) -> None:
    strategy = Aimd(clock, max_delay=10.0)
    assert [tell(strategy, bad()).get_processing_delay("s") for _ in range(3)] == [7.5, 10.0, 10.0]
    assert tell(strategy, good()).get_processing_delay("s") == 5.0


@pytest.mark.spec("AIMD-05")
async def test_after_many_failures_the_shard_is_left_alone_for_a_while(clock: Clock) -> None:
    strategy = tell(Aimd(clock, backoff_threshold=2), bad())
    assert not strategy.should_backoff("s")
    tell(strategy, bad())
    assert strategy.should_backoff("s")
    await clock.sleep(1.0)
    assert not strategy.should_backoff("s")
    tell(strategy, bad())
    assert strategy.get_snapshot("s").backoff_until == clock.monotonic() + 2.0
    tell(strategy, *[bad()] * 20)
    assert strategy.get_snapshot("s").backoff_until == clock.monotonic() + 60.0
    assert not tell(strategy, good()).should_backoff("s")


@pytest.mark.spec("AIMD-06", "D-77")
def test_types_that_mostly_fail_are_named_and_their_neighbours_are_not(clock: Clock) -> None:
    strategy = tell(Aimd(clock, rolling_window_size=4), bad("s", "x", "y", failed=("x",)), good("s", "x", "x"))
    assert strategy.get_snapshot("s").hot_task_types == []
    tell(strategy, bad("s", "x", failed=("x",)))
    assert strategy.get_snapshot("s").hot_task_types == ["x"]
    tell(strategy, *[good("s", "z")] * 4)
    assert strategy.get_snapshot("s").hot_task_types == []


@pytest.mark.spec("AIMD-07", "AIMD-08")
def test_shards_are_judged_apart_and_summed_up(clock: Clock) -> None:
    strategy = tell(Aimd(clock), *[good("a")] * 3, good("a"), bad("b"))
    assert (strategy.get_batch_size("a"), strategy.get_batch_size("b")) == (60, 25)
    whole = strategy.get_snapshot()
    assert (whole.shard_id, whole.current_batch_size, whole.current_delay) == (None, 43, 6.25)
    assert (whole.consecutive_successes, whole.consecutive_failures) == (1, 1)
    assert Aimd(clock).get_snapshot() == AdaptiveSnapshot(current_batch_size=50, current_delay=5.0, hot_task_types=[])


@pytest.mark.spec("AIMD-10")
def test_it_goes_like_a_saw(clock: Clock) -> None:
    strategy = Aimd(clock, successes_before_increase=1)
    results = [good(), good(), bad(), good(), good()]
    assert [tell(strategy, result).get_batch_size("s") for result in results] == [60, 70, 35, 45, 55]


@pytest.mark.spec("D-77")
def test_what_is_read_no_more_is_forgotten(clock: Clock) -> None:
    strategy = tell(Aimd(clock), bad("a"), bad("b"))
    strategy.forget("a")
    strategy.forget("never")
    assert (strategy.get_batch_size("a"), strategy.get_batch_size("b")) == (50, 25)


@pytest.mark.parametrize(
    "option",
    [{"min_batch": 0}, {"max_batch": 5}, {"decrease_factor": 0.0}, {"delay_multiplier": 0.5}, {"base_delay": -1.0}],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(clock: Clock, option: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(option))):
        Aimd(clock, **option)  # type: ignore[arg-type]
