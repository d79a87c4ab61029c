"""Entity projections: one row per task that tells how its work stands (RFC 003).

    scheduled ──▶ processing ──▶ executed | failed | cancelled      within one generation, never back

`ProjectionFold` turns what happens to a task into rows, which are written with the change they tell of; the provider
owns them from then on. Where that provider is a user's own, they wait in an outbox, from which `Feed` delivers them.
"""

from .feed import Feed
from .fold import ProjectionFold

__all__ = ["Feed", "ProjectionFold"]
