"""What one call of the demo works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .report import partial

__all__ = ["DemoSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """Paths are absolute."""

    folder: Path
    database: Path
    report: Path
    slow: float = 0.0
    """Seconds that each step sleeps, so that a hand is quick enough to kill the process half-way."""
    everything: bool = False
    """Whether hidden folders and caches are looked into."""
    concurrency: int = 16

    @property
    def url(self) -> str:
        """The database as tq names it."""
        return f"sqlite:///{quote(str(self.database))}"

    @property
    def queue(self) -> str:
        """Each folder has a queue of its own: runs over other folders in the same database are not ours to finish."""
        return f"demo:{self.folder}"

    @property
    def own_files(self) -> tuple[Path, ...]:
        """What the demo itself writes, and never measures."""
        database = [self.database.with_name(f"{self.database.name}{end}") for end in ("", "-wal", "-shm", "-journal")]
        return (*database, self.report, partial(self.report))
