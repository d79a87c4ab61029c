"""Flows: members, verdicts, joins, and who looks after them."""

from .mutant import ahead, memory, mutant, sqlite, story

__all__ = ["FLOWS", "RECONCILING"]

FLOWS = (
    mutant(
        "flows have random ids",
        "tq/ids.py",
        ('return _derive("flow", task, born, generation, key)', 'return _derive("flow", os.urandom(8))'),
        by=story("flows_start", "a_retried_task_starts_the_same_flow_and_its_steps_run_once[memory]"),
    ),
    mutant(
        "a counter instead of a set (memory)",
        "tq/memory/flows.py",
        ("return self.flow.total - len(self.results)", "return self.flow.total - self.succeeded - self.failed"),
        ("if row.verdict is not None or mark.index in row.results:", "if row.verdict is not None:"),
        by=memory("test_another_value_for_a_member_does_not_complete_for_a_missing_one", "TestMemoryBarrier"),
    ),
    mutant(
        "a counter instead of a set (SQLite)",
        "adapters/tq_sqlite/marks.py",
        ("if (flow_id, index) in new:", "if rows:"),
        by=sqlite("test_another_value_for_a_member_does_not_complete_for_a_missing_one", "TestSqliteBarrier"),
    ),
    mutant(
        "the barrier says only once that it is complete",
        "tq/memory/barrier.py",
        ahead(
            "            named = dict.fromkeys(mark.flow_id for mark in marks)\n",
            "            for mark in marks:\n",
            "                if (row := self._flows.rows.get(mark.flow_id)) is not None:\n",
            "                    row.confirmed = row.verdict is not None\n",
        ),
        by=memory("test_every_caller_is_told_until_the_join_is_confirmed", "TestMemoryBarrier"),
    ),
    mutant(
        "open flows expire",
        "adapters/tq_sqlite/flows.py",
        (
            'confirmed = 1 AND verdict IS NOT NULL AND closed_at < ?"\n        " ORDER BY closed_at LIMIT ?',
            'started_at < ?"\n        " ORDER BY started_at LIMIT ?',
        ),
        by=sqlite("test_what_is_open_or_unconfirmed_is_never_dropped", "TestSqliteBarrier"),
    ),
    mutant(
        "an empty flow waits for ever",
        "tq/memory/flows.py",
        ("self._look_at(row)\n        return self.decide(row, now)", "self._look_at(row)\n        return False"),
        by=memory("test_a_flow_of_no_members_is_complete_at_once", "TestMemoryBarrier"),
    ),
    mutant(
        "a closed flow goes on counting (SQLite)",
        "adapters/tq_sqlite/marks.py",
        ('" WHERE verdict IS NULL AND id IN ({})"', '" WHERE id IN ({})"'),
        by=sqlite("test_a_closed_flow_records_nothing", "TestSqliteBarrier"),
    ),
    mutant(
        "a replay reopens a closed flow (memory)",
        "tq/memory/flows.py",
        ("if row.verdict is not None or mark.index in row.results:", "if mark.index in row.results:"),
        ("del self._open[row.flow.id]", "self._open.pop(row.flow.id, None)"),
        by=story("flows_endings", "replaying_a_step_that_ended_after_the_verdict_counts_nowhere[memory]"),
    ),
    mutant(
        "a deadline comes before the marks of its step (memory)",
        "tq/memory/commit.py",
        ahead(
            "        if self._marks:\n",
            "        for flow_id, verdict, reason in self._verdicts:\n",
            "            if self._flows.mark_aborted(flow_id, verdict, reason, now):\n",
            "                self.closed.append(self._flows.rows[flow_id])\n",
        ),
        by=memory("test_the_last_member_comes_before_the_deadline_of_the_same_hop"),
    ),
    mutant(
        "a deadline comes before the marks of its step (SQLite)",
        "adapters/tq_sqlite/commit.py",
        ahead(
            "    closed += write_marks(db, pool.marks)\n",
            "    closed += [id for id, verdict, reason in pool.verdicts if close_flow(db, id, verdict, reason)]\n",
        ),
        by=sqlite("test_the_last_member_comes_before_the_deadline_of_the_same_hop"),
    ),
    mutant(
        "completeness is weighed before failures",
        "tq/model/flow.py",
        ("if failed > allowed:", "if failed > allowed and remaining > 0:"),
        by=memory("test_failures_are_weighed_before_completeness", "TestMemoryBarrier"),
    ),
    mutant(
        "a deadline is closed over a closed flow",
        "adapters/tq_sqlite/flows.py",
        ("closed_at = ? WHERE id = ? AND verdict IS NULL", "closed_at = ? WHERE id = ?"),
        by=sqlite("test_a_closed_flow_is_not_aborted", "TestSqliteBarrier"),
    ),
    mutant(
        "deadlines are forgotten",
        "tq/flow/plan.py",
        ("        deadline=deadline,\n", "        deadline=None,\n"),
        by=story("flows_deadlines", "a_deadline_joins_on_time_with_what_there_is[memory]"),
    ),
    mutant(
        "a join leaves out who is missing",
        "tq/flow/results.py",
        ("for index in range(expected, last + 1):", "for index in range(0):"),
        by=story("flows_deadlines", "a_deadline_joins_on_time_with_what_there_is[memory]"),
    ),
    mutant(
        "a failure that is retried counts",
        "tq/flow/middleware.py",
        ("if ended.final else effects", "if ended else effects"),
        by=story("flows_endings", "a_failure_that_is_tried_again_does_not_count_the_last_one_does[memory]"),
    ),
    mutant(
        "an expired step does not count",
        "tq/flow/ending.py",
        ahead(
            "    membership = membership_of(task)\n    if membership is None:",
            "    if isinstance(outcome, Failed) and outcome.status is TaskStatus.EXPIRED:\n",
            "        return NO_EFFECTS\n",
        ),
        by=story("flows_endings", "an_expiry_counts[memory]"),
    ),
    mutant(
        "a join that has ended is released again",
        "tq/memory/commit.py",
        (" or message.id in self._ledger.records:", ":"),
        by=memory("test_a_join_whose_id_is_there_is_not_released_twice"),
    ),
    mutant(
        "any flow ends a task that is held",
        "tq/memory/messages.py",
        ("row.state is State.HELD and row.held_by == flow_id else None", "row.state is State.HELD else None"),
        by=memory("test_a_held_task_ends_with_its_flow_once"),
    ),
    mutant(
        "who waits for a flow is forgotten",
        "tq/flow/plan.py",
        ('words["parent"] = parent_words(parent)', "pass"),
        by=story("flows_nested", "a_failure_at_the_bottom_reaches_the_top[memory]"),
    ),
    mutant(
        "a redrive runs everybody again",
        "tq/memory/flows.py",
        ("for index in range(row.flow.total) if index not in row.results]", "for index in range(row.flow.total)]"),
        by=memory("test_a_flow_is_opened_again_for_those_without_success", "TestMemoryBarrier"),
    ),
    mutant(
        "a redrive loses who succeeded late",
        "tq/memory/flows.py",
        ("row.results = row.belated | {", "row.results = {"),
        by=memory("test_a_success_after_the_verdict_counts_when_the_flow_is_opened_again", "TestMemoryBarrier"),
    ),
)

RECONCILING = (
    mutant(
        "nobody looks after what is due",
        "tq/flow/reconcile.py",
        ("states = await barrier_of(self._backend).due(now, self._page)", "states: list[FlowState] = []"),
        by=story("flows_repair", "a_verdict_whose_join_nobody_sent_sends_it"),
    ),
    mutant(
        "nobody looks over what is quiet",
        "tq/flow/reconcile.py",
        ("suspects = await self._suspects(now)", "suspects: list[Suspect] = []"),
        by=story("flows_repair", "a_forgotten_mark_is_made_from_the_record"),
    ),
    mutant(
        "the reconciler marks whom it cannot find at once",
        "tq/flow/repair.py",
        ("LOST_AFTER = 3600.0", "LOST_AFTER = 0.0"),
        by=story("flows_repair", "a_step_that_is_nowhere_is_called_lost_after_an_hour"),
    ),
    mutant(
        "the place is kept before the members are written",
        "tq/flow/spread.py",
        ahead(
            "    await backend.commit(Batch(effects=[effects]))\n",
            "    await barrier_of(backend).advance(flow.id, spread=number + 1)\n",
        ),
        by=story("flows_wide", "a_worker_killed_while_it_spreads_is_followed_by_another[memory]"),
    ),
    mutant(
        "nobody reads of held tasks whose flow does not know them",
        "tq/flow/waiting.py",
        ("outgoing(TOPIC, PAGE)", 'outgoing("nothing", PAGE)'),
        by=story("flows_nested", "who_waits_in_its_second_attempt_for_the_flow_of_its_first_ends_like_any_other"),
    ),
)
