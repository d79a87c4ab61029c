"""The first look at a server: may it be used, is it safe, and whose are the keys?"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from tq.clock import Clock, apart
from tq.errors import ConfigurationError, ForeignDatabaseError, ReadOnlyDatabaseError

from .client import connect_blocking
from .driver import exceptions
from .errors import mapped
from .settings import RedisSettings

__all__ = ["LAYOUT", "Found", "check_layout", "look_at"]

LAYOUT = 1
"""How keys and values are laid out; stands under `layout` in every namespace, and in lua/verbs.lua."""

_LEAST_VERSION = (6, 2)

log = logging.getLogger("tq.redis")


class Found(NamedTuple):
    """What the server is."""

    cluster: bool


def look_at(settings: RedisSettings, clock: Clock) -> Found:
    """Ask the server what it is, and warn of what may lose or delay tasks.

    Raises:
        ConfigurationError: it is too old, or a numbered database of a cluster is asked for.
        ReadOnlyDatabaseError: it is a replica.
        BackendError: as `tq_redis.errors` maps it.
    """
    client = connect_blocking(settings)
    try:
        with mapped(settings.place):
            try:
                info = client.info()
            except exceptions.NoPermissionError:
                log.warning("%s does not let us see how it is set: is it durable, does it evict?", settings.place)
                return Found(cluster=False)
    finally:
        client.close()
    check_version(settings.place, info)
    if info.get("role") in {"slave", "replica"}:
        raise ReadOnlyDatabaseError(f"{settings.place} is a replica, which cannot be written to; name its primary")
    found = Found(cluster=bool(info.get("cluster_enabled")))
    check_database(settings, found)
    warn(settings.place, info)
    if "server_time_usec" in info and not clock.virtual:  # servers tell it from version 7.0 on
        off = apart(settings.place, info["server_time_usec"] / 1e6, clock.now())
        if off:
            log.warning(off)
    return found


def check_version(place: str, info: dict[str, Any]) -> None:
    """Refuse a server that lacks what the scripts need.

    Raises:
        ConfigurationError: it is too old.
    """
    version = str(info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _LEAST_VERSION:
        raise ConfigurationError(f"tq needs Redis 6.2 or newer, for ZMSCORE; {place} is {version or 'of no version'}")


def check_database(settings: RedisSettings, found: Found) -> None:
    """Refuse a numbered database of a cluster: its clients would use another one.

    Raises:
        ConfigurationError: one is asked for.
    """
    if found.cluster and settings.database:
        raise ConfigurationError(f"{settings.place}: of a cluster only database 0 is used; leave the number out")


def warn(place: str, info: dict[str, Any]) -> None:
    """Warn of settings with which the server loses what it has acknowledged."""
    if not info.get("aof_enabled"):
        log.warning("%s loses what it was given when it dies: set `appendonly yes` in its configuration", place)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        log.warning(
            "%s throws tasks away when its memory is full (%s): set `maxmemory-policy noeviction`", place, policy
        )


def check_layout(settings: RedisSettings, layout: bytes) -> None:
    """Refuse a namespace that is not ours, given what stands under `layout`: "" for keys without one.

    Raises:
        ForeignDatabaseError: another program, or a newer version of tq, has made the keys.
    """
    where = f"the namespace {settings.namespace!r} of {settings.place}"
    if not layout.isdigit():
        raise ForeignDatabaseError(f"{where} belongs to another program; give another namespace=")
    if int(layout) > LAYOUT:
        raise ForeignDatabaseError(
            f"{where} was made by a newer tq: its layout is {int(layout)}, this one knows {LAYOUT}; upgrade tq"
        )
