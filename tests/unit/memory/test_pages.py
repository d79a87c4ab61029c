from dataclasses import dataclass
from random import Random

from tq.memory.pages import Pages


@dataclass
class Row:
    name: str
    seq: int


def test_pages_agree_with_sorting_whatever_comes_and_goes() -> None:
    random = Random(7)
    rows: dict[str, Row] = {}
    pages = Pages(rows)
    seq = 0
    for _ in range(300):
        for _ in range(random.randrange(30)):
            name = f"{random.randrange(500):03}"
            if name in rows and random.random() < 0.6:
                del rows[name]
            elif name not in rows:
                seq += 1
                rows[name] = Row(name, seq)
        after = f"{random.randrange(500):03}"
        assert [row.name for row in pages.after(after)] == [name for name in sorted(rows) if name > after]
        assert all(row is rows[row.name] for row in pages.after(after))


def test_a_page_moves_only_what_is_new() -> None:
    rows = {f"{number:05}": Row(f"{number:05}", number + 1) for number in range(10_000)}
    pages = Pages(rows)
    assert sum(1 for _ in pages.after("")) == 10_000
    old = pages._old
    rows["new"] = Row("new", 10_001)
    assert [row.name for row in pages.after("09998")] == ["09999", "new"]
    assert pages._old is old
