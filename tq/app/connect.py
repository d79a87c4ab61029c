"""Find the adapter that a URL names, and open its backend."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, cast

from tq.clock import Clock, SystemClock
from tq.errors import ConfigurationError, InvalidInputError
from tq.ports import Backend

__all__ = ["connect"]

GROUP = "tq.backends"


def connect(url: str, *, clock: Clock | None = None, **options: Any) -> Backend:
    """Open the backend that `url` names: `sqlite:///tq.db`, `memory://`, and whatever adapters are installed.

    An adapter announces itself by an entry point of the group `tq.backends`, named after the URL's scheme: a callable
    `(url, *, clock, **options) -> Backend`. `options` are the adapter's own settings.

    Raises:
        InvalidInputError: it is no URL.
        ConfigurationError: no adapter takes this scheme, or an option is not known to it.
    """
    scheme, colon, _ = url.partition("://") if isinstance(url, str) else ("", "", "")  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance] -- users pass anything
    if not colon or not scheme:
        raise InvalidInputError("url", url, "give a URL such as sqlite:///tq.db or memory://")
    name = scheme.partition("+")[0]
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigurationError(f"no adapter takes {scheme}:// URLs; installed are: {known}")
    opener = found[name].load()
    try:
        return cast("Backend", opener(url, clock=clock or SystemClock(), **options))
    except TypeError as error:
        if "unexpected keyword" in str(error):
            raise ConfigurationError(f"{scheme}:// takes no such option: {error}") from error
        raise
