"""A queue in one file, for a handful of tasks: what an adapter of your own may look like.

    TaskHandler(queue=FileQueue(Path("queue.json")), store=connect("sqlite:///kept.db").store, executors=executors)

`book.py` decides what a queue has to decide, and does nothing; `file.py` reads and writes the file, and owns its
errors; `queue.py` fulfils the port, each verb by one round trip. An adapter imports the kit alone: `tq.errors`,
`tq.clock`, `tq.ids`, `tq.codec`, `tq.lifecycle`, `tq.model`, `tq.ports`. Its tests are the public suites of
`tq.testing.contracts`.
"""

from .queue import FileQueue

__all__ = ["FileQueue"]
