"""There and back: which payloads a worker reads as what the producer gave, and how to see whether another one does.

pydantic promises nothing of the kind: an alias for one direction, a serializer without its validator, a subclass where
its base is declared, and the bytes are read as something else, or not at all. Reading back what was written tells, for
about what it costs to write it; so a look at pydantic's own schema tells, once for each type, when there is no need to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum, auto
from typing import Any, NamedTuple, TypeGuard

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

__all__ = ["Change", "Trip", "Trust", "changed", "plan_trip"]

Node = Mapping[str, Any]


class Trust(Enum):
    """How much of what the door has checked has to be looked at again."""

    WHOLE = auto()
    """Nothing: whatever fits comes back."""
    BY_TYPES = auto()
    """A model of single values: whatever combination of types came back once comes back again."""
    UNLESS_WARNED = auto()
    """Models in models and collections: pydantic warns of fields that are not of their type."""
    NONE = auto()
    """Everything: read it back."""


class Trip(NamedTuple):
    """What is known of a type's way to a worker."""

    trust: Trust
    free: bool
    """Whether there is a place for anything, which comes back as plain JSON values."""
    models: tuple[type, ...]
    """Whose subclasses would lose what is their own, for their base is what is declared."""


class Change(NamedTuple):
    """The first place where a value came back as another one."""

    path: str
    given: object
    back: object


# --- the type, once ---------------------------------------------------------------------------------------------------


def plan_trip(schema: Node) -> Trip:
    """Say what of a type's values has to be looked at again, from the core schema that pydantic made of it."""
    survey = _Survey()
    whole = survey.comes_back(schema)
    models = tuple(survey.models)
    if not whole:
        trust = Trust.NONE
    elif not models:
        trust = Trust.WHOLE
    elif len(models) == 1 and not survey.holds_several and schema["type"] in ("model", "dataclass"):
        trust = Trust.BY_TYPES
    else:
        trust = Trust.UNLESS_WARNED
    return Trip(trust, survey.free, models)


_SINGLE = frozenset({"none", "bool", "int", "float", "str", "bytes", "decimal", "date", "datetime", "uuid"})
_JSON_SINGLE = frozenset({"none", "bool", "int", "float", "str"})
_KEYS = frozenset({"str", "int", "any"})
_SEVERAL = frozenset({"list", "set", "frozenset", "tuple", "dict"})
_WORDS = frozenset({"type", "ref", "metadata"})
"""What any node may say without changing what comes back; a word that is not known here may change anything."""
_MODEL = _WORDS | {"cls", "schema", "config", "custom_init", "root_model", "post_init", "frozen", "generic_origin"}
_FIELDS = _WORDS | {"fields", "model_name", "dataclass_name", "cls", "cls_name", "total", "config", "computed_fields"}
_FIELD = _WORDS | {"schema", "name", "required", "frozen", "kw_only", "init", "validation_alias", "serialization_alias"}
_DEFAULT = frozenset({"schema", "default", "default_factory"})
_CONFIG = frozenset({"title", "frozen", "extra_fields_behavior", "from_attributes", "validate_by_name"})


class _Survey:
    """A walk over a schema; whatever it does not know is not trusted."""

    def __init__(self) -> None:
        self.models: dict[type, None] = {}
        self.free = False
        self.holds_several = False
        self._definitions: dict[str, Node] = {}
        self._met: set[str] = set()

    def comes_back(self, node: Node) -> bool:
        """Tell whether every value that was checked against this comes back; stop at the first that may not."""
        kind: str = node["type"]
        if kind in _SINGLE:
            return _says(node, _WORDS | {"allow_inf_nan", "microseconds_precision"})
        if kind in _SEVERAL:
            self.holds_several = True
            return self._several(node)
        match kind:
            case "any":
                self.free = self.holds_several = True
                return _says(node, _WORDS)
            case "nullable" | "default":
                return _says(node, _WORDS | {"schema", "default", "default_factory"}) and self.comes_back(
                    node["schema"]
                )
            case "literal":
                return _says(node, _WORDS | {"expected"}) and _are_json(node["expected"])
            case "enum":
                return _says(node, _WORDS | {"cls", "members", "sub_type", "missing"}) and _are_json(
                    member.value for member in node["members"]
                )
            case "union":  # the members are told apart by their JSON, unless two of them look the same in it
                choices = node["choices"]
                return all(
                    type(one) is dict and one["type"] in _JSON_SINGLE and self.comes_back(one) for one in choices
                )
            case "model" | "dataclass":
                return self._model(node)
            case "typed-dict":
                self.holds_several = True
                return self._fields(node, by_alias=True)
            case "definitions":
                self._definitions.update({one["ref"]: one for one in node["definitions"]})
                return self.comes_back(node["schema"])
            case "definition-ref":
                self.holds_several = True
                return self._named(node["schema_ref"])
            case _:
                return False

    def _is_json(self, choice: Node | tuple[Node, str]) -> bool:
        return not isinstance(choice, tuple) and choice["type"] in _JSON_SINGLE and self.comes_back(choice)

    def _several(self, node: Node) -> bool:
        keys: Node | None = node.get("keys_schema")
        items: Node | list[Node] = node.get("items_schema") or []
        if not _says(node, _WORDS | {"items_schema", "keys_schema", "values_schema", "variadic_item_index"}):
            return False
        if keys is not None and (keys["type"] not in _KEYS or not self.comes_back(keys)):
            return False
        inner = items if isinstance(items, list) else [items]
        if (values := node.get("values_schema")) is not None:
            inner = [*inner, values]
        self.free |= not inner
        return all(map(self.comes_back, inner))

    def _model(self, node: Node) -> bool:
        cls = node["cls"]
        self.models[cls] = None
        if node["type"] == "dataclass" or node.get("root_model"):
            self.holds_several |= not getattr(cls, "__dictoffset__", 0) or bool(node.get("root_model"))
        config: Node = node.get("config") or {}
        if not (_says(node, _MODEL | {"fields", "slots"}) and config.keys() <= _CONFIG and not node.get("custom_init")):
            return False
        if node.get("post_init") not in (None, False, "init_private_attributes"):
            return False
        self.free |= config.get("extra_fields_behavior") == "allow"
        inner = node["schema"]
        if node.get("root_model"):
            return self.comes_back(inner)
        return inner["type"] in ("model-fields", "dataclass-args") and self._fields(
            inner, by_alias=config.get("validate_by_alias", True)
        )

    def _fields(self, node: Node, *, by_alias: bool) -> bool:
        if not _says(node, _FIELDS | {"collect_init_only"}) or node.get("computed_fields"):
            return False
        fields = node["fields"]
        return all(_is_plain(one, by_alias=by_alias) and self.comes_back(one["schema"]) for one in _values(fields))

    def _named(self, ref: str) -> bool:
        """Follow a name once: what holds itself comes back if all else in it does."""
        if ref in self._met or ref not in self._definitions:
            return ref in self._met
        self._met.add(ref)
        return self.comes_back(self._definitions[ref])


def _says(node: Node, words: AbstractSet[str]) -> bool:
    """Tell whether a node says nothing but this; what it denies does not count."""
    return all(word in words or value is None or value is False for word, value in node.items())


def _is_plain(field: Node, *, by_alias: bool) -> bool:
    """Tell whether a field is read under the name under which it is written."""
    read, written = field.get("validation_alias"), field.get("serialization_alias")
    named = read == written and (read is None or (by_alias and isinstance(read, str)))
    return named and field.get("init") is not False and _says(field, _FIELD)


def _values(fields: Mapping[str, Node] | Sequence[Node]) -> Iterable[Node]:
    return fields.values() if isinstance(fields, Mapping) else fields


def _are_json(values: Iterable[object]) -> bool:
    return all(type(value) in (str, int, bool, type(None)) for value in values)


# --- a value, where its type does not tell ----------------------------------------------------------------------------


def changed(given: object, back: object, path: str, *, free: bool) -> Change | None:
    """Return the first place where what came back is not what was given, or None.

    Compared is what travels: private attributes of models do not, nor does the difference between a list and a tuple
    where the type says no more than that there are several. What has no equality of its own is trusted.
    """
    if given is back or _are_equal(given, back) or (free and _is_written_as(given, back)):
        return None

    def within(pairs: Iterable[tuple[str, object, object]]) -> Change | None:
        found = (changed(one, other, f"{path}{where}", free=free) for where, one, other in pairs)
        return next((change for change in found if change is not None), None)

    if type(given) is type(back) and (names := _names(given)) is not None:
        return within((f".{name}", getattr(given, name, _ABSENT), getattr(back, name, _ABSENT)) for name in names)
    if _is_mapping(given) and _is_mapping(back) and given.keys() == back.keys():
        return within((f".{key}", item, back[key]) for key, item in given.items())
    if _is_list(given) and _is_list(back) and len(given) == len(back):
        return within((f"[{n}]", *pair) for n, pair in enumerate(zip(given, back, strict=True)))
    if type(given) is type(back) and type(given).__eq__ is object.__eq__:
        return None
    return Change(path, given, back)


_ABSENT = object()


def _are_equal(given: object, back: object) -> bool:
    try:
        return bool(given == back)
    except Exception:  # noqa: BLE001 -- an equality of the user's own, which answers something else, or not at all
        return False


def _is_written_as(given: object, back: object) -> bool:
    try:
        return bool(to_jsonable_python(given, by_alias=True) == back)
    except Exception:  # noqa: BLE001 -- it is no such thing
        return False


def _names(value: object) -> Sequence[str] | None:
    """Return the names of the fields that travel, or None where there are none to tell apart."""
    if isinstance(value, BaseModel):
        return [*type(value).model_fields, *(value.__pydantic_extra__ or ())]
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.init and field.compare]
    return None


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, object]]:
    return isinstance(value, Mapping)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
