"""Live mappings and lists, over a backend in memory that counts edits."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import pytest

from sigfs.api.mapping import LiveList, LiveMapping
from sigfs.errors import DocumentChanged, InvalidValue


class Memory:
    """A backend: JSON text. ``hindered``: how many of the next edits end in DocumentChanged."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.text = json.dumps(data)
        self.edits = 0
        self.hindered = 0

    def load(self) -> dict[str, Any]:
        return json.loads(self.text)

    @contextmanager
    def edit(self) -> Iterator[dict[str, Any]]:
        data = self.load()
        yield data
        if self.hindered:
            self.hindered -= 1
            raise DocumentChanged("somebody else was here")
        self.text = json.dumps(data)
        self.edits += 1


@pytest.fixture
def memory() -> Memory:
    return Memory({"a": 1, "box": {"x": 1, "deep": {"y": [1, {"z": 2}]}}, "list": [3, 1, 2]})


@pytest.fixture
def live(memory: Memory) -> LiveMapping:
    return LiveMapping(memory)


def test_keys_are_items_and_attributes_at_every_level(live: LiveMapping, memory: Memory) -> None:
    assert (live.a, live["a"], live.box.x, live["box"].deep["y"][1].z) == (1, 1, 1, 2)
    live.box.deep.y[1].z = 5
    live.box["new"] = True
    del live.a
    del live["box"]["x"]
    assert memory.load() == {"box": {"deep": {"y": [1, {"z": 5}]}, "new": True}, "list": [3, 1, 2]}
    assert memory.edits == 4


def test_a_key_that_is_missing_is_a_key_error_and_an_attribute_error(live: LiveMapping) -> None:
    with pytest.raises(KeyError):
        live["nope"]
    with pytest.raises(AttributeError, match="nope"):
        _ = live.nope
    with pytest.raises(AttributeError, match="nope"):
        del live.nope
    with pytest.raises(KeyError):
        del live["nope"]
    assert not hasattr(live, "nope")
    assert getattr(live, "nope", 3) == 3


def test_what_it_shows_follows_the_backend(live: LiveMapping, memory: Memory) -> None:
    box = live.box
    memory.text = '{"box": {"x": 9}}'
    assert (box.x, len(box), dict(live)) == (9, 1, {"box": {"x": 9}})


@pytest.mark.parametrize("text", ['{"a": 1}', '{"box": 3}', '{"box": [1]}'])
def test_a_nested_mapping_whose_place_is_gone_says_so_and_changes_nothing(
    live: LiveMapping, memory: Memory, text: str
) -> None:
    deep = live.box.deep
    box = live.box
    memory.text = text
    for action in (deep, deep.clear, lambda: deep.update(a=1), lambda: deep["y"], box, lambda: box.update(a=1)):
        with pytest.raises(KeyError, match=r"box.* any more"):
            action()
    assert memory.text == text
    assert "any more" in repr(box)


def test_a_place_in_a_list_that_is_gone_is_said(live: LiveMapping, memory: Memory) -> None:
    item = live.box.deep.y[1]
    live.box.deep.y.pop()
    with pytest.raises(KeyError, match=r"box\.deep\.y\.1 is not there"):
        item()
    memory.text = '{"box": {"deep": {"y": "text"}}}'
    with pytest.raises(KeyError, match="any more"):
        item()


def test_calling_it_gives_plain_data_of_the_callers_own(live: LiveMapping, memory: Memory) -> None:
    data = live()
    assert type(data) is dict
    assert type(data["box"]) is dict
    assert type(live.list()) is list
    data["box"]["x"] = 100
    assert live.box.x == 1
    assert live.copy() == memory.load()


def test_what_is_put_in_is_made_plain_and_stays_unconnected(live: LiveMapping, memory: Memory) -> None:
    class Level(IntEnum):
        HIGH = 3

    class Array:
        def tolist(self) -> list[float]:
            return [0.5, 1.5]

    nested = {"t": (1, 2), "n": Level.HIGH, "array": Array()}
    live.new = nested
    nested["later"] = 1
    assert memory.load()["new"] == {"t": [1, 2], "n": 3, "array": [0.5, 1.5]}
    live.twin = live.box
    live.twin.x = 77
    assert live.box.x == 1
    live.many = [live.box.deep, {"inner": live.list}]
    assert live.many() == [{"y": [1, {"z": 2}]}, {"inner": [3, 1, 2]}]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("a", object(), "a: an object has no form"),
        ("a", {"b": {1: 2}}, "a.b: key 1 is an int"),
        ("a", {"b": [1, 1j]}, "a.b.1: a complex"),
        ("a.b", 1, 'contains "."'),
        ("", 1, "empty"),
        (3, 1, "key 3 is an int"),
    ],
)
def test_what_json_has_no_form_for_is_refused_and_nothing_is_written(
    live: LiveMapping, memory: Memory, key: Any, value: object, message: str
) -> None:
    before = memory.text
    for put in (
        lambda: live.__setitem__(key, value),
        lambda: live.update({"fine": 1, key: value}),
        lambda: live.setdefault(key, value),
        lambda: live.reset({"fine": 1, key: value}),
    ):
        with pytest.raises(InvalidValue, match=message):
            put()
    assert memory.text == before


def test_a_refused_value_deep_inside_is_named_by_its_whole_path(live: LiveMapping) -> None:
    with pytest.raises(InvalidValue, match=r"box\.deep\.k: a set"):
        live.box.deep.k = {1}
    with pytest.raises(InvalidValue, match=r"list\.0: a set"):
        live.list[0] = {1}


def test_every_call_that_changes_is_one_edit(live: LiveMapping, memory: Memory) -> None:
    calls = [
        lambda: live.update({"p": 1}, q=2),
        lambda: live.update([("p", 3), ("q", 4)]),
        lambda: live.setdefault("a", 5),
        lambda: live.setdefault("s", {}),
        lambda: live.pop("p"),
        lambda: live.pop("p", None),
        lambda: live.list.append(4),
        lambda: live.list.extend([9, 8]),
        lambda: live.list.insert(0, 7),
        lambda: live.list.remove(9),
        live.list.reverse,
        live.list.sort,
        lambda: live.list.pop(0),
        lambda: live.list.__setitem__(slice(0, 2), [{"m": 1}]),
        lambda: live.list.__delitem__(0),
        live.list.clear,
        live.box.popitem,
        live.box.clear,
        lambda: live.reset({"only": 1}),
    ]
    for number, call in enumerate(calls, 1):
        call()
        assert memory.edits == number
    assert memory.load() == {"only": 1}


def test_dict_methods_answer_as_those_of_a_dict(live: LiveMapping) -> None:
    assert live.pop("a") == 1
    assert live.pop("a", "gone") == "gone"
    with pytest.raises(KeyError):
        live.pop("a")
    assert live.setdefault("a", 2) == 2
    assert live.setdefault("a", 3) == 2
    assert live.get("nope") is None
    assert live.get("nope", 4) == 4
    assert isinstance(live.get("box"), LiveMapping)
    assert isinstance(live.get("list"), LiveList)
    assert live.popitem() == ("a", 2)
    assert list(live) == list(live.keys()) == ["box", "list"]
    assert "box" in live
    assert "nope" not in live
    assert live
    live.clear()
    assert not live
    live.update(None)
    assert live == {}


def test_values_of_one_moment_are_live(live: LiveMapping, memory: Memory) -> None:
    memory.text = '{"p": {"n": 0}, "q": {"n": 0}}'
    for key, value in live.items():
        value.n = key
    for value in live.values():
        value.seen = True
    assert memory.load() == {"p": {"n": "p", "seen": True}, "q": {"n": "q", "seen": True}}


def test_list_methods_answer_as_those_of_a_list(live: LiveMapping) -> None:
    numbers = live.list
    assert (numbers[0], numbers[-1], numbers[1:], len(numbers)) == (3, 2, [1, 2], 3)
    assert numbers == [3, 1, 2]
    assert numbers != [3]
    assert list(numbers) == [3, 1, 2]
    assert list(reversed(numbers)) == [2, 1, 3]
    assert (numbers.index(1), numbers.count(3), 2 in numbers, 5 in numbers) == (1, 1, True, False)
    numbers.sort(key=lambda n: -n)
    assert numbers() == [3, 2, 1]
    assert numbers.pop() == 1
    with pytest.raises(IndexError):
        numbers[9]
    with pytest.raises(IndexError):
        numbers[9] = 1
    with pytest.raises(ValueError, match="not in list"):
        numbers.remove(9)
    live.rows = [{"n": 1}, {"n": 2}]
    live.rows[-1].n = 5
    assert live.rows == [{"n": 1}, {"n": 5}]
    assert live.rows.index({"n": 5}) == live.rows.index(live.rows[1]) == 1


def test_adding_to_a_list_in_place_is_one_edit(live: LiveMapping, memory: Memory) -> None:
    live.list += [5]
    live["list"] += [6]
    live.box.deep.y[1].more = [[1]]
    live.box.deep.y[1].more[0] += [2]
    live.box.deep.y[-1].more[-1] += [3]
    assert memory.edits == 5
    assert live.list == [3, 1, 2, 5, 6]
    assert live.box.deep.y[1].more == [[1, 2, 3]]


def test_mappings_compare_by_what_they_say(live: LiveMapping, memory: Memory) -> None:
    assert live == memory.load()
    assert memory.load() == live
    assert live == LiveMapping(Memory(memory.load()))
    assert live != {}
    assert live != 3
    assert live.box == {"deep": {"y": [1, {"z": 2}]}, "x": 1}
    with pytest.raises(TypeError):
        hash(live)


def test_copies_and_pickles_are_plain_data(live: LiveMapping, memory: Memory) -> None:
    for other in (copy.copy(live), copy.deepcopy(live), pickle.loads(pickle.dumps(live))):
        assert type(other) is dict
        assert other == memory.load()
    assert type(pickle.loads(pickle.dumps(live.list))) is list
    assert {**live.box} == live.box()


def test_names_of_methods_are_no_keys_as_attributes_but_as_items(live: LiveMapping, memory: Memory) -> None:
    with pytest.raises(AttributeError, match=r"write \['items'\]"):
        live.items = 3
    with pytest.raises(AttributeError, match=r"write \['__x'\]"):
        setattr(live, "__x", 3)
    with pytest.raises(AttributeError, match=r"write \['items'\]"):
        del live.items
    live["items"] = 3
    assert live["items"] == 3
    assert memory.load()["items"] == 3


def test_names_of_keys_are_offered_for_completion(live: LiveMapping) -> None:
    live["no attribute"] = 1
    assert {"a", "box", "update"} <= set(dir(live))
    assert "no attribute" not in dir(live)


def test_a_change_is_made_anew_if_somebody_came_between(live: LiveMapping, memory: Memory) -> None:
    memory.hindered = 3
    live.list.append(4)
    assert live.list == [3, 1, 2, 4]
    memory.hindered = 1000
    with pytest.raises(DocumentChanged):
        live.a = 2
    assert live.a == 1


def test_it_is_shown_as_what_it_says(live: LiveMapping) -> None:
    assert repr(live.box) == str(live.box) == "{'x': 1, 'deep': {'y': [1, {'z': 2}]}}"
    assert repr(live.list) == "[3, 1, 2]"
