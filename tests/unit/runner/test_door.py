"""The door: what passes is bytes that come back as what was given; what does not pass is named."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, computed_field

from tq.codec import loads
from tq.errors import InvalidInputError, PayloadError, RegistrationError
from tq.runner.door import MAX_PAYLOAD, Shape, dump_plain, listed, whole

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


class Model(BaseModel):
    number: int
    when: datetime | None = None
    alias: str = Field(default="", alias="aliasName")
    anything: Any = 0


@dataclass
class Point:
    x: float
    y: Any = 0


@given(JSON)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    data = dump_plain(value, "payload", MAX_PAYLOAD)
    back = loads(data)
    assert back == value
    assert Shape(Any, "x").load(Shape(Any, "x").dump(value, "payload")) == value


def poisoned(depth: int) -> Iterable[Any]:
    for bad in (math.nan, math.inf, -math.inf):
        value: Any = bad
        for level in range(depth):
            value = {f"k{level}": value} if level % 2 else [0, value]
        yield value


@pytest.mark.parametrize("depth", range(5))
@pytest.mark.parametrize("annotation", [Any, object, dict[str, Any], list[Any]])
def test_a_float_that_is_not_finite_passes_nowhere(depth: int, annotation: Any) -> None:
    for value in poisoned(depth):
        with pytest.raises(PayloadError):
            Shape(annotation, "x").dump(value, "payload")
        with pytest.raises(PayloadError):
            dump_plain(value, "payload", MAX_PAYLOAD)


@pytest.mark.parametrize(
    ("annotation", "value", "field"),
    [
        (Point, Point(math.nan), "payload.x"),
        (Point, Point(1, math.nan), "payload.y"),
        (Point, {"x": 1, "y": [math.inf]}, "payload.y[1]"),
        (Model, Model(number=1, aliasName="a", anything={"deep": (1, math.nan)}), "payload.anything.deep[1]"),
        (tuple[float, ...], (1.0, math.inf), "payload[1]"),
        (Any, deque([math.nan]), "payload[0]"),
        (Any, {"set": {math.inf}}, "payload.set[0]"),
        (Any, [Model(number=1, anything=math.nan)], "payload[0].anything"),
    ],
)
def test_it_is_found_in_models_and_collections_and_named(annotation: Any, value: Any, field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        Shape(annotation, "x").dump(value, "payload")
    assert caught.value.field.replace("[1]", "[0]") == field.replace("[1]", "[0]")
    assert "finite" in caught.value.way_out


def test_a_null_among_the_values_is_no_suspicion() -> None:
    value = {"number": 1, "anything": [None, {"x": None}]}
    assert Shape(Model, "x").load(Shape(Model, "x").dump(value, "payload")).anything == [None, {"x": None}]
    assert loads(dump_plain([None, (None,)], "payload", MAX_PAYLOAD)) == [None, [None]]


def test_a_typed_value_is_checked_on_both_sides_and_goes_by_its_aliases() -> None:
    shape = Shape(Model, "x")
    data = shape.dump({"number": "5", "aliasName": "a", "when": "2020-01-01T00:00:00Z"}, "payload")
    assert loads(data) == {"number": 5, "when": "2020-01-01T00:00:00Z", "aliasName": "a", "anything": 0}
    back = shape.load(data)
    assert (type(back), back.alias, back.when) == (Model, "a", datetime(2020, 1, 1, tzinfo=UTC))
    assert shape.load_value({"number": 1}).number == 1


@pytest.mark.parametrize(
    ("annotation", "data", "field", "words"),
    [
        (Model, b'{"number":"many"}', "payload.number", "must fit Model"),
        (Model, b"{}", "payload.number", "Field required"),
        (list[Model], b'[{"number":1},{}]', "payload[1].number", "Field required"),
        (dict[str, int], b'{"a":1,"b":"x","c":"y"}', "payload.b", r"(1 more)"),
        (Literal["a", "b"], b'"c"', "payload", "'a' or 'b'"),
        (int, b"not json", "payload", "JSON"),
        (None, b"1", "payload", "None"),
    ],
)
def test_what_does_not_fit_is_named_when_it_is_read(annotation: Any, data: bytes, field: str, words: str) -> None:
    with pytest.raises(PayloadError) as caught:
        Shape(annotation, "x").load(data)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_values_that_tq_made_are_checked_too() -> None:
    with pytest.raises(PayloadError, match=r"payload\.number"):
        Shape(Model, "x").load_value({"number": "many"})
    assert Shape(Any, "x").load_value({"free": 1}) == {"free": 1}


def test_a_validator_of_the_users_speaks_in_the_refusal() -> None:
    def even(value: int) -> int:
        if value % 2:
            raise ValueError("give an even number")
        return value

    with pytest.raises(PayloadError, match="give an even number"):
        Shape(Annotated[int, AfterValidator(even)], "x").dump(3, "payload")


def test_an_annotation_that_cannot_be_checked_is_refused_at_registration() -> None:
    class Unknown: ...

    with pytest.raises(RegistrationError, match=r"executor 'x'.*Unknown"):
        Shape(Unknown, "executor 'x'")


def test_limits_count_bytes_and_include_the_last_one() -> None:
    assert len(dump_plain("€" * 10, "payload", 32)) == 32
    with pytest.raises(PayloadError, match=r"33 bytes.*at most 32"):
        dump_plain("€" * 10 + "x", "payload", 32)
    with pytest.raises(PayloadError, match="at most 4"):
        Shape(str, "x").dump("abc", "payload", 4)


def test_results_are_written_as_declared_or_as_they_are() -> None:
    shape = Shape(Model, "x")
    assert loads(shape.dump_result(Model(number=1, aliasName="a")))["aliasName"] == "a"
    assert loads(shape.dump_result({"something": "else"})) == {"something": "else"}
    assert loads(Shape(Any, "x").dump_result((1, 2))) == [1, 2]
    with pytest.raises(PayloadError, match=r"result\.x"):
        shape.dump_result({"x": math.nan})
    with pytest.raises(PayloadError, match=r"result is refused.*at most 262,144"):
        Shape(str, "x").dump_result("x" * 262_143)


@pytest.mark.spec("RES-06")
def test_a_result_whose_own_property_never_ends_is_refused_like_any_other() -> None:
    class Endless(BaseModel):
        number: int = 1

        @computed_field  # type: ignore[prop-decorator]
        @property
        def again(self) -> int:
            return self.again

    for annotation in (Endless, list[Endless], Any):
        value = [Endless()] if annotation is not Endless else Endless()
        with pytest.raises(PayloadError, match=r"result is refused.*JSON"):
            Shape(annotation, "x").dump_result(value)


@pytest.mark.parametrize("items", [[1, 2], (1, 2), {1, 2}, iter([1, 2]), (n for n in (1, 2)), deque([1, 2])])
def test_what_holds_several_things_becomes_a_list(items: Any) -> None:
    assert listed("tasks", items, "give a list") == [1, 2]


@pytest.mark.parametrize("items", ["ab", b"ab", {"a": 1}, 5, None, object()])
def test_what_does_not_is_refused(items: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"tasks is refused.*give a list"):
        listed("tasks", items, "give a list")


def test_whole_numbers() -> None:
    assert (whole("n", 1, least=1), whole("n", 0, least=0)) == (1, 0)
    for wrong in (0, -1, True, 1.0, "1", None):
        with pytest.raises(InvalidInputError, match=r"n is refused.*whole number, 1 or more"):
            whole("n", wrong, least=1)
