"""Writes messages into the stream: in order per key, whatever of it does not arrive at first (KIN-02, KIN-03, D-74)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from tq.clock import Clock
from tq.errors import BackendUnavailableError
from tq.model import Message

from .errors import ThrottledError
from .keys import key_of
from .packing import Record, pack
from .settings import KinesisSettings
from .shipping import backoff, cut, failed
from .stream import Stream

__all__ = ["Producer"]

FIRST_WAIT = 0.2
LONGEST_WAIT = 5.0


class Producer:
    """Sends each wave until it has arrived; only then the next, which may hold the same keys."""

    def __init__(
        self,
        stream: Stream,
        settings: KinesisSettings,
        clock: Clock,
        default_key: Callable[[Message], str | None] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._clock = clock
        self._default_key = default_key
        self._chance = chance

    async def send(self, messages: Sequence[Message]) -> None:
        """Write messages; return when all of them have arrived.

        Raises:
            ContentRefusedError: one cannot be written; none was sent.
            BackendUnavailableError: some have not arrived, others have.
        """
        keyed = [(message, key_of(message, self._default_key)) for message in messages]
        for wave in pack(keyed, most=self._settings.record_size, together=self._settings.together):
            await self._send(wave)

    async def _send(self, wave: Sequence[Record]) -> None:
        left, why = list(wave), Counter[str]()
        for attempt in range(self._settings.attempts):
            if attempt:
                await self._clock.sleep(backoff(attempt - 1, FIRST_WAIT, LONGEST_WAIT, self._chance))
            why.clear()
            missing: list[Record] = []
            for request in cut(left):
                answers = await self._put(request)
                missing += failed(request, answers)
                why.update(code for code in answers if code)
            left = missing
            if not left:
                return
        count, reasons = sum(len(record.ids) for record in left), ", ".join(sorted(why))
        error = ThrottledError if "ProvisionedThroughputExceededException" in why else BackendUnavailableError
        tries = self._settings.attempts
        raise error(f"{count} messages did not arrive in {self._settings.place} after {tries} attempts: {reasons}")

    async def _put(self, request: Sequence[Record]) -> list[str]:
        """Send one request; one that fails as a whole may have arrived, and is sent again all the same."""
        try:
            return await self._stream.put(request)
        except BackendUnavailableError as error:
            return [f"{type(error).__name__} ({error})"] * len(request)
