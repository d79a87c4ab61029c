"""The backend, part four: what is written within a transaction of the user's own."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress

import pytest

from tq.clock import Clock
from tq.errors import ContentRefusedError, InvalidInputError
from tq.model import Batch, Effects, Message
from tq.ports import Backend

from .hopping import BackendSuite
from .values import flow, hop, ids, message, projection

__all__ = ["Enlisting"]


class TakenBackError(Exception):
    """Raised within a transaction of the user's own, which is then rolled back."""


class Enlisting(BackendSuite):
    """What is declared as `enlists` is true."""

    def transaction(self, backend: Backend) -> AbstractAsyncContextManager[object] | None:
        """Give a connection of the user's own to the data of this backend, with a transaction begun.

        It commits at the end of the block, and rolls back where that is left by an exception. None where the backend
        takes no such connection.
        """
        return None

    def own(self, backend: Backend) -> AbstractAsyncContextManager[object]:
        """Begin a transaction of the user's own, or skip the test."""
        transaction = self.transaction(backend)
        if transaction is None:
            pytest.skip("this backend writes in no transaction but its own")
        return transaction

    async def add_within(self, backend: Backend, connection: object, *messages: Message) -> list[str]:
        """Add messages; return the ids that were taken."""
        hop = await backend.commit_within(connection, Batch(effects=[Effects(messages=messages)]))
        return hop.duplicates

    async def test_what_is_declared_of_transactions_can_be_proved(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            assert (self.transaction(backend) is not None) is backend.enlists, (
                "a backend that enlists overrides `transaction`; one that does not does not"
            )

    async def test_what_is_no_connection_is_refused(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            with pytest.raises(InvalidInputError, match="connection"):
                await self.add_within(backend, object(), message("a", clock.now()))
            assert await backend.queue.locate(["a"]) == {}

    async def test_what_is_added_in_a_transaction_is_there_when_it_commits(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            async with self.own(backend) as connection:
                assert await self.add_within(backend, connection, message("a", clock.now())) == []
                assert await backend.queue.locate(["a"]) == {}
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["a"]

    async def test_what_is_added_in_a_transaction_goes_with_it(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            begun = flow("f", 1, clock.now())
            row = projection("a", 0, clock.now())
            effects = Effects(messages=(message("a", clock.now()),), flows=(begun,), projections=(row,))
            with suppress(TakenBackError):
                async with self.own(backend) as connection:
                    await backend.commit_within(connection, Batch(effects=[effects]))
                    raise TakenBackError
            assert (await hop(backend, lease=self.long)).deliveries == []
            assert await self.barrier(backend).get(["f"]) == {}
            assert (await backend.commit(Batch(effects=[effects]))).known == ()

    async def test_ids_that_are_taken_are_told(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            await backend.queue.add([message("a", clock.now())])
            async with self.own(backend) as connection:
                given = [message("a", clock.now()), message("b", clock.now())]
                assert await self.add_within(backend, connection, *given) == ["a"]
                assert await self.add_within(backend, connection, *given) == ["a", "b"]
            assert sorted(ids((await hop(backend, lease=self.long)).deliveries)) == ["a", "b"]

    async def test_a_flow_that_is_there_is_not_started_again(self, clock: Clock) -> None:
        async with self.open(clock) as backend:
            begun = Effects(flows=(flow("f", 1, clock.now()),), messages=(message("f.0", clock.now()),))
            async with self.own(backend) as connection:
                await backend.commit_within(connection, Batch(effects=[begun]))
                again = await backend.commit_within(connection, Batch(effects=[begun]))
                assert [state.id for state in again.known] == ["f"]
            assert ids((await hop(backend, lease=self.long)).deliveries) == ["f.0"]

    async def test_refused_content_leaves_the_transaction_as_it_was(self, clock: Clock) -> None:
        bad = self.bad_text()
        async with self.open(clock) as backend:
            async with self.own(backend) as connection:
                await self.add_within(backend, connection, message("a", clock.now()))
                with pytest.raises(ContentRefusedError):
                    await self.add_within(backend, connection, message("b", clock.now()), message(bad, clock.now()))
                await self.add_within(backend, connection, message("c", clock.now()))
            assert sorted(ids((await hop(backend, lease=self.long)).deliveries)) == ["a", "c"]
