"""What passes the door is read as what was given; whatever would not be is refused there, by the name of its field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    computed_field,
    field_serializer,
    model_validator,
)
from typing_extensions import TypedDict

from tq.codec import loads
from tq.errors import PayloadError
from tq.runner.door import MAX_PAYLOAD, MAX_RESULT, Shape, dump_plain
from tq.runner.roundtrip import Trust, plan_trip

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    NONE = 0


class Corner(Enum):
    TOP = (0, 1)


class Animal(BaseModel):
    name: str
    age: int = 1
    seen: datetime | None = None


class Dog(Animal):
    breed: str


class Plant(BaseModel):
    height: float
    found: date | None = None
    colour: Colour = Colour.RED
    kind: Literal["tree", "herb"] = "tree"
    mass: int | float = 0


class Zoo(BaseModel):
    plants: list[Plant] = Field(default_factory=list[Plant])
    by_name: dict[str, Plant] = Field(default_factory=dict[str, Plant])


class Tree(BaseModel):
    name: str
    inner: list[Tree] = Field(default_factory=list["Tree"])


class Kept(BaseModel):
    anything: Any = None
    more: dict[str, Any] = Field(default_factory=dict[str, Any])


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Numbers(RootModel[list[int]]): ...


class Box(BaseModel, Generic[T]):
    held: T


class Login(BaseModel):
    user: str
    password: SecretStr
    token: SecretBytes = SecretBytes(b"")


class Typed(TypedDict):
    plant: Plant


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Point3(Point):
    z: float = 0.0


@dataclasses.dataclass
class Path3:
    points: list[Point]
    length: dataclasses.InitVar[int] = 3


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


@dataclasses.dataclass(eq=False)
class Unequal:
    x: Annotated[int, Field(ge=0)]


class Pair(NamedTuple):
    a: int
    b: str = "b"


class Read(BaseModel):
    a: int = Field(validation_alias="aa")


class Written(BaseModel):
    a: int = Field(serialization_alias="aa")


class Aliased(BaseModel):
    a: int = Field(alias="aa")


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
    a: int = Field(alias="aa")


class Excluded(BaseModel):
    a: int = Field(exclude=True)
    b: int = 1


class ExcludedDefault(BaseModel):
    a: int = Field(default=1, exclude=True)
    b: int = 1


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def b(self) -> int:
        return self.a + 1


class InText(BaseModel):
    j: Json[list[int]]


class OneWay(BaseModel):
    when: datetime

    @field_serializer("when")
    def as_people_write_it(self, when: datetime) -> str:
        return when.strftime("%d.%m.%Y")


class Growing(BaseModel):
    n: int

    @model_validator(mode="after")
    def grow(self) -> Growing:  # noqa: N804 -- of an instance, after
        self.n += 1
        return self


class Positive(BaseModel):
    n: int = Field(gt=0)


class Private(BaseModel):
    n: int = Field(gt=0)
    _lock: object = PrivateAttr(default_factory=object)


NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PLANT = Plant(height=1.5, found=date(2020, 1, 1), colour=Colour.NONE)

BACK: list[tuple[Any, Any]] = [
    (Animal, Animal(name="Rex", seen=NOON)),
    (Animal, Animal(name="Rex")),
    (Plant, PLANT),
    (Zoo, Zoo(plants=[PLANT], by_name={"a": PLANT})),
    (Tree, Tree(name="a", inner=[Tree(name="b")])),
    (list[Plant], [PLANT]),
    (Animal | None, None),
    (Animal | Dog, Dog(name="Rex", breed="Collie")),
    (Numbers, Numbers([1, 2])),
    (Box[int], Box[int](held=1)),
    (Typed, {"plant": PLANT}),
    (Point, Point(1.0)),
    (Path3, Path3([Point(1.0)])),
    (Slotted, Slotted(1)),
    (Pair, Pair(1)),
    (Aliased, Aliased(aa=1)),
    (Computed, Computed(a=1)),
    (InText, InText(j="[1]")),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    (Positive, Positive(n=1)),
    (Open, Open(name="a", more=[1])),  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    (Colour, Colour.RED),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (dict[int, str], {1: "a"}),
    (int | str, "5"),
    (str | int, 5),
    (float | int, 5),
    (datetime, NOON),
    (timedelta, timedelta(days=1, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=5)),
    (Path, Path("/a")),
    (complex, 1 + 2j),
    (bytes, b"abc"),
]


@pytest.mark.parametrize(("annotation", "value"), BACK)
def test_what_passes_is_read_as_what_was_given(annotation: Any, value: Any) -> None:
    shape = Shape(annotation, "x")
    for _ in range(2):  # the second time more is known of it
        back = shape.load(shape.dump(value, "payload"))
        assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize(
    ("annotation", "given", "read"),
    [
        (Kept, Kept(anything=(1, NOON), more={"at": NOON, "p": PLANT}), None),
        (Sequence[int], (1, 2), [1, 2]),
        (Mapping[str, tuple[int, ...]], {"a": (1,)}, {"a": (1,)}),
        (object, Animal(name="Rex"), {"name": "Rex", "age": 1, "seen": None}),
        (Box[int], {"held": "1"}, Box[int](held=1)),
    ],
)
def test_where_the_type_leaves_it_open_the_values_of_json_will_do(annotation: Any, given: Any, read: Any) -> None:
    shape = Shape(annotation, "x")
    back = shape.load(shape.dump(given, "payload"))
    assert read is None or back == read


def test_what_has_no_equality_and_what_does_not_travel_is_not_held_against_a_value() -> None:
    for annotation, value in ((Private, Private(n=1)), (Unequal, Unequal(1)), (Iterable[int], (n for n in (1, 2)))):
        assert Shape(annotation, "x").dump(value, "payload")


REFUSED: list[tuple[Any, Any, str, str]] = [
    (Login, Login(user="u", password=SecretStr("hunter2")), "payload.password", "give a plain str, or a reference"),
    (Login, {"user": "u", "password": "", "token": "t"}, "payload.token", "SecretBytes hides its value"),
    (Animal, Dog(name="Rex", breed="Collie"), "payload", "declare Dog"),
    (list[Animal], [Animal(name="a"), Dog(name="Rex", breed="Collie")], "payload[1]", "declare Dog, or a union"),
    (dict[str, Point], {"a": Point3(1, 2, 3)}, "payload.a", "declare Point3"),
    (Read, Read.model_validate({"aa": 1}), "payload.aa", "one alias for both ways"),
    (Written, Written(a=1), "payload.a", "one alias for both ways"),
    (ByName, ByName.model_validate({"a": 1}), "payload.a", "one alias for both ways"),
    (Excluded, Excluded(a=5), "payload.a", "no field left out"),
    (ExcludedDefault, ExcludedDefault(a=5), "payload.a", "would get 1"),
    (OneWay, OneWay(when=NOON), "payload.when", "no one-way serializer"),
    (dict[tuple[int, int], str], {(1, 2): "a"}, "payload.1,2.[key]", "must fit"),
    (Growing, {"n": 1}, "payload.n", "would get 3"),
    (Annotated[int, AfterValidator(lambda n: n + 1)], 1, "payload", "would get 3"),
    (Path | str, "a", "payload", "would get PosixPath('a')"),
    (Path3, Path3([Point3(1.0, 2.0, 3.0)]), "payload.points[0]", "declare Point3"),
    (Corner, Corner.TOP, "payload", "must fit Corner"),
    (Animal, Animal.model_construct(age=1), "payload.name", "Field required"),
    (Animal, Animal.model_construct(name="a", age="old"), "payload.age", "valid integer"),
    (list[Animal], [Animal.model_construct(name=None)], "payload[0].name", "valid string"),
    (Positive, Positive.model_construct(n=-1), "payload.n", "greater than 0"),
    (Zoo, Zoo.model_construct(plants=["x"]), "payload.plants[0]", "Input should be an object"),
    (Point, Point("far"), "payload.x", "valid number"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
]


@pytest.mark.parametrize(("annotation", "value", "field", "way_out"), REFUSED)
def test_what_would_be_lost_or_changed_or_unreadable_is_refused(
    annotation: Any, value: Any, field: str, way_out: str
) -> None:
    shape = Shape(annotation, "x")
    for _ in range(2):
        with pytest.raises(PayloadError) as caught:
            shape.dump(value, "payload")
        assert (caught.value.field, way_out in caught.value.way_out) == (field, True), caught.value


def test_a_model_that_was_changed_since_it_was_checked_is_refused() -> None:
    animal: Any = Animal(name="Rex")
    shape = Shape(Animal, "x")
    shape.dump(animal, "payload")
    animal.age = "old"
    with pytest.raises(PayloadError, match=r"payload\.age is refused"):
        shape.dump(animal, "payload")


def test_a_secret_is_seen_where_no_type_is_known() -> None:
    for hidden, field in (({"p": [SecretStr("x")]}, "payload.p[0]"), (Login(user="u", password=SecretStr("x")), "")):
        with pytest.raises(PayloadError, match="hides its value") as caught:
            dump_plain(hidden, "payload", MAX_PAYLOAD)
        assert caught.value.field == (field or "payload.password")
    assert loads(dump_plain(["**********", (1,)], "payload", MAX_PAYLOAD)) == ["**********", [1]]
    assert loads(dump_plain([SecretStr("x")], "result", MAX_RESULT, masked=True)) == ["**********"]


@pytest.mark.parametrize(
    ("annotation", "trust"),
    [
        (int, Trust.WHOLE),
        (dict[str, list[int | None]], Trust.WHOLE),
        (list[dict[str, Any]], Trust.WHOLE),
        (Animal, Trust.BY_TYPES),
        (Plant, Trust.BY_TYPES),
        (Point, Trust.BY_TYPES),
        (Aliased, Trust.BY_TYPES),
        (list[Plant], Trust.UNLESS_WARNED),
        (Zoo, Trust.UNLESS_WARNED),
        (Tree, Trust.UNLESS_WARNED),
        (Slotted, Trust.UNLESS_WARNED),
        (Positive, Trust.NONE),
        (Read, Trust.NONE),
        (OneWay, Trust.NONE),
        (Login, Trust.NONE),
        (Path, Trust.NONE),
        (datetime | str, Trust.NONE),
    ],
)
def test_only_what_may_change_is_read_back(annotation: Any, trust: Trust) -> None:
    schema: Any = TypeAdapter(annotation).core_schema
    assert plan_trip(schema).trust is trust
