"""Public modules say in `__all__` what they promise, sorted, and keep it."""

import importlib

import pytest

from tests.house.tree import PUBLIC, adapters


def rank(name: str) -> tuple[int, str]:
    """Return the place of a name: constants, then classes, then the rest, as the linter sorts them."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_sorted_and_exist(module: str) -> None:
    imported = importlib.import_module(module)
    names: list[str] | tuple[str, ...] = getattr(imported, "__all__", ())
    assert names, f"{module} is public and has no __all__"
    assert list(names) == sorted(set(names), key=rank)
    missing = [name for name in names if not hasattr(imported, name)]
    assert not missing, f"{module}.__all__ promises what is not there: {missing}"


def test_every_adapter_is_public() -> None:
    assert set(adapters()) <= set(PUBLIC), "name the new adapter in tests/house/tree.py"
