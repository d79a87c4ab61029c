"""What a consumer of a stream breaks by a slip of the hand: order, a checkpoint, a lease, a count of crashes."""

from .mutant import mutant

__all__ = ["STREAMS"]


def kinesis(file: str, test: str) -> str:
    return f"tests/adapters/test_kinesis_{file}.py::test_{test}"


STREAMS = (
    mutant(
        "the checkpoint follows what was read",
        "adapters/tq_kinesis/window.py",
        ("while self._records and not self._records[0].left:", "while self._records:"),
        by=kinesis("window", "the_checkpoint_is_the_prefix_of_what_has_ended"),
    ),
    mutant(
        "messages of a key run side by side",
        "adapters/tq_kinesis/window.py",
        ('key = (line, "") if line else ("", message.id)', 'key = ("", message.id)'),
        by=kinesis("window", "of_a_line_one_is_out_at_a_time_while_lines_run_side_by_side"),
    ),
    mutant(
        "reading goes on without room",
        "adapters/tq_kinesis/reader.py",
        (" and self.window.room", ""),
        by=kinesis("stories", "a_stall_under_back_pressure_loses_nothing"),
    ),
    mutant(
        "a parked task does not hold up its key",
        "adapters/tq_kinesis/reader.py",
        ('if ordered and self._settings.on_failure == "park_key":', "if False:"),
        by=kinesis("stories", "a_key_waits_for_its_failing_task_and_others_do_not"),
    ),
    mutant(
        "records are handed out before the lease says so",
        "adapters/tq_kinesis/reader.py",
        ("if haul.records and not await self._announce(haul.records[-1].position):", "if False:"),
        by=kinesis("reader", "who_reads_on_after_a_death_counts_it"),
    ),
    mutant(
        "a lease outlives its renewal",
        "adapters/tq_kinesis/hold.py",
        (
            "return not self._lost and self._clock.monotonic() - self.since < self._lease",
            "return not self._lost",
        ),
        by=kinesis("hold", "what_was_not_renewed_for_a_lease_is_lost_though_nobody_came"),
    ),
    mutant(
        "a lease that another has taken is still believed",
        "adapters/tq_kinesis/hold.py",
        ("if row is None:\n            self._lost = True\n", "if row is None:\n"),
        by=kinesis("hold", "what_somebody_else_has_changed_is_lost_at_once_and_for_good"),
    ),
    mutant(
        "a change whose answer was lost is forgotten",
        "adapters/tq_kinesis/hold.py",
        ("if self._unsure is not None and not await self._swap(*self._unsure):", "if False:"),
        by=kinesis("hold", "a_change_whose_answer_was_lost_is_made_before_the_next"),
    ),
    mutant(
        "a child is read beside its parent",
        "adapters/tq_kinesis/topology.py",
        ("all(parent.checkpoint == ENDED for parent in parents)", "True"),
        by=kinesis("reader", "an_ended_shard_is_marked_and_its_children_are_read_from_their_beginning"),
    ),
    mutant(
        "a shard moves while tasks of it run",
        "adapters/tq_kinesis/leaser.py",
        ("return not reader.window.out or", "return True or"),
        by=kinesis("stories", "a_worker_that_joins_gets_its_share_and_nothing_runs_twice"),
    ),
    mutant(
        "a death is no crash",
        "adapters/tq_kinesis/leaser.py",
        ("inherited(died=bool(row.owner))", "inherited(died=False)"),
        by=kinesis("stories", "a_poison_record_is_buried_and_the_shard_goes_on"),
    ),
    mutant(
        "records that did not arrive are forgotten",
        "adapters/tq_kinesis/producer.py",
        ("            left = missing\n", "            left = []\n"),
        by=kinesis("producer", "only_what_failed_is_sent_again_and_success_stops_at_once"),
    ),
    mutant(
        "records of one key are sent at once",
        "adapters/tq_kinesis/packing.py",
        ("number = number + 1 if key.ordered else 0", "number = 0"),
        by=kinesis("packing", "no_two_records_of_one_key_are_on_their_way_at_once"),
    ),
    mutant(
        "who waits for a flow holds up its key",
        "tq/runner/composite/custody.py",
        ('fence=fence, lane="")', "fence=fence)"),
        by=kinesis("stories", "who_waits_for_a_flow_does_not_hold_up_the_key_that_its_members_share"),
    ),
)
