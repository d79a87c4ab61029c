"""botocore and aiobotocore, or the word what to install: every other file takes them from here.

Only what every version has is named. Clients are used by the shape of their answers, so that one which was made by a
newer version, or by aioboto3, does just as well.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tq.errors import MissingExtraError

try:
    from botocore import exceptions

    _config: Any = import_module("aiobotocore.config")
    _session: Any = import_module("aiobotocore.session")
except ImportError as error:
    raise MissingExtraError("kinesis") from error

__all__ = ["exceptions", "new_config", "new_session"]


def new_session() -> Any:
    """Return a session that finds region and credentials as every tool of AWS does."""
    return _session.get_session()


def new_config(timeout: float) -> Any:
    """Return what a client is made with: it waits for so long, and tries nothing again by itself."""
    return _config.AioConfig(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1})
