"""Custody: leases, retries, ids, and the order of writing where servers are several."""

from .mutant import CRASHES, ahead, memory, mutant, sqlite, story, unit

__all__ = ["CUSTODY", "SEVERAL_SERVERS"]

CUSTODY = (
    mutant(
        "an outcome without its lease is written (memory)",
        "tq/memory/commit.py",
        ("if row is None or row.token != token or not token:", "if row is None:"),
        by=memory("test_a_settlement_that_lost_its_lease_has_no_effect_whatever"),
    ),
    mutant(
        "effects of a lost lease are written (SQLite)",
        "adapters/tq_sqlite/commit.py",
        ("if settlement.receipt not in without]", "if without]"),
        by=sqlite("test_a_settlement_that_lost_its_lease_has_no_effect_whatever"),
    ),
    mutant(
        "the fence does not grow",
        "tq/memory/claims.py",
        ("row.fence = fence = row.fence + 1", "row.fence = fence = row.fence or 1"),
        by=story("crashes", "a_killed_workers_task_runs_elsewhere_within_the_lease[memory]"),
    ),
    mutant(
        "leases are never renewed",
        "tq/runner/keeper.py",
        ("if not held:\n            return None", "if held is not None:\n            return None"),
        by=story("crashes", "a_killed_workers_task_runs_elsewhere_within_the_lease"),
    ),
    mutant(
        "leases are renewed from the loop alone",
        "tq/runner/keeper.py",
        ("if self._clock.virtual:", "if self._clock:"),
        by=story("misbehaviour", "an_executor_that_blocks_the_loop_keeps_its_lease_and_is_warned_of"),
    ),
    mutant(
        "a lease that ran out is not taken back",
        "tq/memory/claims.py",
        ("if queue.leases and queue.leases[0][0] <= now:", "if not queue:"),
        by=memory("test_a_lease_that_ran_out_gives_the_message_to_another_worker", "TestMemoryQueue"),
    ),
    mutant(
        "a crash counts as a retry",
        "tq/memory/messages.py",
        (
            "row.crashes += 1\n",
            "row.crashes += 1\n        row.message = row.message._replace(attempt=row.message.attempt + 1)\n",
        ),
        by=memory("test_a_retry_is_no_crash_and_a_crash_no_retry", "TestMemoryQueue"),
    ),
    mutant(
        "a release counts as a crash",
        "tq/memory/messages.py",
        (
            '"""Give back a delivery, uncounted, due as it was."""\n',
            '"""Give back a delivery, uncounted, due as it was."""\n        row.crashes += 1\n',
        ),
        by=memory("test_what_is_released_is_due_as_it_was_and_counts_for_nothing"),
    ),
    mutant(
        "an innocent neighbour is convicted",
        "tq/runner/settle.py",
        ("return delivery.solo_crashes >= max_crashes", "return delivery.crashes >= max_crashes"),
        by="tests/unit/runner/test_settle.py::test_only_crashes_alone_convict",
    ),
    mutant(
        "nobody is ever convicted",
        "tq/runner/settle.py",
        ("return delivery.solo_crashes >= max_crashes", "return delivery.solo_crashes < 0"),
        by=story("crashes", "a_poison_task_is_convicted_alone_and_its_neighbours_live[memory]"),
    ),
    mutant(
        "a suspect runs in company",
        "tq/runner/gate.py",
        ("execution.alone = crashes >= SUSPECT_FROM", "execution.alone = False"),
        by=story("crashes", "a_poison_task_is_convicted_alone_and_its_neighbours_live[memory]"),
    ),
    mutant(
        "a retry comes before its time",
        "tq/runner/settle.py",
        ("return Rearm(now + delay, message.attempt + 1", "return Rearm(now, message.attempt + 1"),
        by=story("retries", "retries_come_after_quadratically_growing_delays[memory]"),
    ),
    mutant(
        "messages are handed out before their time (SQLite)",
        "adapters/tq_sqlite/claims.py",
        ("AND w.due <= ? ORDER BY", "AND w.due > -? ORDER BY"),
        by=sqlite("test_nothing_is_handed_out_before_its_time", "TestSqliteQueue"),
    ),
    mutant(
        "what a worker does not know fails at once",
        "tq/runner/settle.py",
        ("if waited >= grace:", "if waited >= 0:"),
        by=story("foreign", "what_one_worker_does_not_know_another_one_runs"),
    ),
    mutant(
        "an attempt without an outcome keeps what it said",
        "tq/runner/endings.py",
        ("if attempt.outcome is outcome and (attempt", "if (attempt"),
        by=story("flows_start", "an_attempt_that_raises_without_an_outcome_starts_nothing[memory]"),
    ),
    mutant(
        "children have random ids",
        "tq/ids.py",
        (
            'return _derive("child", parent, born, generation, type, queue, payload, occurrence)',
            'return _derive("child", os.urandom(8))',
        ),
        by=story("actions", "children_of_a_failed_attempt_are_added_and_a_repetition_adds_nothing[memory]"),
    ),
    mutant(
        "an outcome is dropped while the server is away",
        "tq/runner/commit.py",
        ahead("                if self.giving_up:\n", "                return Hop([])\n"),
        by=story("outages", "an_absent_backend_is_waited_out_with_the_outcomes_in_hand[memory]"),
    ),
    mutant(
        "one refused outcome holds up its neighbours",
        "tq/runner/commit.py",
        ("return await self._split(pending, notes, claim, error)", "raise BackendError(str(error)) from error"),
        by=story("outages", "an_outcome_that_the_backend_refuses_is_a_dead_letter_and_its_neighbours_are_written"),
    ),
)

SEVERAL_SERVERS = (
    mutant(
        "acknowledged before the outcome row",
        "tq/runner/composite/backend.py",
        ahead(
            "        await self._ledger.record(fresh, now)\n        return",
            "        await self._custodian.end(fresh)\n",
        ),
        by=f"{CRASHES}[die-before-able]",
    ),
    mutant(
        "acknowledged before its effects",
        "tq/runner/composite/backend.py",
        ahead("        duplicates, known = await self._carry(", "        await self._custodian.end(works)\n"),
        by=f"{CRASHES}[die-before-able]",
    ),
    mutant(
        "the last outcome recorded counts",
        "tq/memory/ledger.py",
        ("if stored is None:\n                self._outcomes[key]", "if True:\n                self._outcomes[key]"),
        by=memory("test_the_first_outcome_of_an_execution_counts_for_everybody", "TestMemoryStore"),
    ),
    mutant(
        "deliveries that come again are not looked up",
        "tq/runner/composite/claim.py",
        ahead("        if delivery.fence > 1 or delivery.crashes:\n", "        return False\n"),
        by="tests/unit/runner/test_composite.py::test_a_delivery_whose_row_lives_in_the_store_is_left_to_it",
    ),
    mutant(
        "a parked message is acknowledged before its row is written",
        "tq/runner/composite/park.py",
        ahead("        row = self._unsure.get(receipt", "        await self._queue.ack([receipt])\n"),
        by="tests/unit/runner/test_composite.py::test_a_row_that_cannot_be_written_leaves_message_and_lease_as_they_are",
    ),
    mutant(
        "a join is confirmed before it is written",
        "tq/runner/composite/flows.py",
        ahead(
            "        sent = await self._dispatch(over, now)\n",
            "        await self._barrier.confirm_join([(it.id, it.flow.generation) for it in over])\n",
        ),
        by=f"{CRASHES}[die-before-able]",
    ),
    mutant(
        "a failure counts in two generations of its flow",
        "tq/runner/composite/carry.py",
        ("if work.effects and not work.again]", "if work.effects]"),
        by=unit("generations", "an_ending_that_was_counted_does_not_count_in_the_next_generation_too[store]"),
    ),
    mutant(
        "a failure counts in the next generation without its lease",
        "tq/runner/composite/flows.py",
        ("for work, mark in late if work in holding]", "for work, mark in late]"),
        by=unit("generations", "who_stood_still_for_longer_than_a_lease_counts_nothing_in_the_next_generation"),
    ),
    mutant(
        "a join is given to the queue",
        "tq/runner/composite/insert.py",
        (" or is_join(message.id)", ""),
        by=unit("generations", "a_join_that_is_written_late_does_not_run_once_more_after_a_redrive"),
    ),
    mutant(
        "a task is held in place of its worker, and what it brings is left",
        "tq/runner/composite/held.py",
        ("await carry([work for work in works.values() if not work.carried])", "pass"),
        by=unit("held", "a_flow_that_was_faster_than_its_task_loses_nothing_that_the_task_brings[store]"),
    ),
    mutant(
        "an outcome is noted as carried out though its message is there",
        "tq/runner/composite/leftovers.py",
        ("if execution_of(key) not in there]", "if True]"),
        by=unit("leftovers", "an_outcome_whose_message_is_still_there_is_left_to_whoever_gets_it[queue]"),
    ),
)
