"""redis-py and hiredis, or the word what to install: every other file takes them from here."""

from __future__ import annotations

from tq.errors import MissingExtraError

try:
    import hiredis
    import redis
    from redis import asyncio as aio
    from redis import backoff, exceptions, retry
    from redis.asyncio import retry as aio_retry
except ImportError as error:
    raise MissingExtraError("redis") from error

__all__ = ["aio", "aio_retry", "backoff", "exceptions", "hiredis", "redis", "retry"]
