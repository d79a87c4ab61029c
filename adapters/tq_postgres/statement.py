"""Several calls of our functions as one statement, and so as one transaction and one round trip."""

from __future__ import annotations

__all__ = ["Statement"]


class Statement:
    """Calls are carried out in order, each seeing what those before it wrote.

    What one statement writes cannot be seen by its other parts, but a function sees all that was done before it was
    called. So each call is a step that reads the step before it, which puts them in order.
    """

    def __init__(self) -> None:
        self.args: list[object] = []
        self._steps: list[str] = []
        self._columns: list[str] = []
        self._rows = ""

    def call(self, function: str, *args: object, expect: str = "", returns: str = "") -> str:
        """Add a call of one of the functions in `sql/`; return the words by which later steps name its value.

        With `expect` the function returns places, and there must be none: else nothing at all is done, and the error
        names them. With `returns` the value comes back under this name.
        """
        call = self._written(function, args)
        return self.step(f"tq_expect('{expect}', {call})" if expect else call, returns=returns)

    def step(self, expression: str, *, returns: str = "") -> str:
        """Add an expression, evaluated after all that came before it; return the words that name its value."""
        before = f" FROM step{len(self._steps)}" if self._steps else ""
        self._steps.append(f"step{len(self._steps) + 1} AS MATERIALIZED (SELECT {expression} AS x{before})")
        value = f"(SELECT x FROM step{len(self._steps)})"
        if returns:
            self._columns.append(f"{value} AS {returns}")
        return value

    def rows(self, function: str, *args: object) -> None:
        """End with a call that gives rows, one at least: they come back, each with the values of the steps."""
        self._rows = self._written(function, args)

    @property
    def text(self) -> str:
        """The statement."""
        columns = ", ".join([*(["rows.*"] if self._rows else []), *self._columns])
        if not self._steps:
            return f"SELECT {columns} FROM {self._rows} rows"
        # The join's left side comes first, always: the rows are made when every step is done.
        rows = f" LEFT JOIN LATERAL {self._rows} rows ON true" if self._rows else ""
        return f"WITH {', '.join(self._steps)} SELECT {columns} FROM step{len(self._steps)}{rows}"

    def _written(self, function: str, args: tuple[object, ...]) -> str:
        first = len(self.args) + 1
        self.args += args
        return f"tq_{function}({', '.join(f'${number}' for number in range(first, first + len(args)))})"
