"""State points: ids, validation and the exact reader."""

import enum
import hashlib
import json
import math
import string
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sigfs.errors import InvalidStatePoint
from sigfs.model.statepoint import (
    ID_FUNCTIONS,
    MAX_DEPTH,
    encode,
    is_job_id,
    load_json,
    statepoint_id,
    validate,
)

# Lone surrogates too.
TEXT = st.text(st.characters(codec=None, categories=None) | st.characters(categories=["Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**66)
    | st.integers(min_value=-(2**66), max_value=-(2**62))
    | st.floats()
    | TEXT
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def same(left: object, right: object) -> bool:
    """Equality that tells 1 from 1.0 and true, 0.0 from -0.0, and holds for NaN; the order of keys counts."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right)


def outcome(load: object, data: bytes) -> object:
    try:
        return (load(data),)
    except (ValueError, RecursionError):
        return None


def assert_reads_like_the_standard_library(data: bytes) -> None:
    ours, theirs = outcome(load_json, data), outcome(json.loads, data)
    assert (ours is None) == (theirs is None), data
    if ours is not None:
        assert same(ours[0], theirs[0]), data


@pytest.mark.parametrize(
    ("statepoint", "expected"),
    [
        ({"foo": 42}, "0300c31b9d55c0196b3848d252e46c0f"),
        ({}, "99914b932bd37a50b983c5e7c90ae93b"),
        (None, hashlib.md5(b"null").hexdigest()),
        ({"b": 1, "a": 2}, hashlib.md5(b'{"a": 2, "b": 1}').hexdigest()),
        ({"a": 1.0}, hashlib.md5(b'{"a": 1.0}').hexdigest()),
        ({"a": 1e22}, hashlib.md5(b'{"a": 1e+22}').hexdigest()),
        ({"a": -0.0}, hashlib.md5(b'{"a": -0.0}').hexdigest()),
        ({"a": math.nan, "b": -math.inf}, hashlib.md5(b'{"a": NaN, "b": -Infinity}').hexdigest()),
        ({"a": 2**70}, hashlib.md5(b'{"a": 1180591620717411303424}').hexdigest()),
        ({"ü": "\U0001f600\ud800"}, hashlib.md5(b'{"\\u00fc": "\\ud83d\\ude00\\ud800"}').hexdigest()),
        ({"a": (1, None)}, hashlib.md5(b'{"a": [1, null]}').hexdigest()),
        ({1: True}, hashlib.md5(b'{"1": true}').hexdigest()),
    ],
)
def test_the_id_is_md5_of_the_text_that_the_standard_library_writes(statepoint, expected):
    assert statepoint_id(statepoint) == expected


@given(VALUES)
def test_the_id_is_that_of_json_dumps_for_every_value(value):
    text = json.dumps(value, sort_keys=True)
    assert statepoint_id(value) == hashlib.md5(text.encode()).hexdigest()


def test_numbers_booleans_and_strings_that_look_alike_are_different_jobs():
    assert len({statepoint_id({"a": value}) for value in (1, 1.0, True, "1")}) == 4


def test_every_id_function_gives_something_spelled_like_a_job_id():
    ids = {statepoint_id({"foo": 42}, name) for name in ID_FUNCTIONS}
    assert len(ids) == len(ID_FUNCTIONS) == 2
    assert all(is_job_id(job_id) for job_id in ids)


def test_an_unknown_id_function_is_refused_by_name():
    with pytest.raises(ValueError, match=r"sha1.*md5, xxh3_128"):
        statepoint_id({}, "sha1")


def test_what_json_cannot_write_has_no_id():
    loop = {}
    loop["a"] = loop
    for value in ({"a": {1}}, {"a": b"x"}, {"a": 1, 2: 3}, loop, {"a": 10**5000}):
        with pytest.raises(InvalidStatePoint):
            statepoint_id(value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0300c31b9d55c0196b3848d252e46c0f", True),
        ("0300C31B9D55C0196B3848D252E46C0F", False),
        ("0300c31b9d55c0196b3848d252e46c0", False),
        ("0300c31b9d55c0196b3848d252e46c0f0", False),
        ("0300c31b9d55c019 b3848d252e46c0f", False),
        ("g300c31b9d55c0196b3848d252e46c0f", False),
        ("\u0660" * 32, False),
        ("\udc80" * 32, False),
        ("", False),
    ],
)
def test_a_job_id_is_32_lower_case_hexadecimal_digits(name, expected):
    assert is_job_id(name) is expected


# --- the reader ---


@pytest.mark.parametrize(
    "data",
    [
        b"18446744073709551615",
        b"18446744073709551616",
        b"-9223372036854775808",
        b"-9223372036854775809",
        b"1180591620717411303424",
        b"[-0, -0.0, 0.0, -1e-400]",
        b"[1e400, -1E400]",
        b"1" * 400 + b".5",
        b"1" * 5000,
        b"-" + b"7" * 4300,
        b'{"a": 1, "b": 2, "a": 3}',
        b"[NaN, Infinity, -Infinity]",
        b"nan",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\ud83d\\ude00"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xf4\x90\x80\x80"',
        b"\xef\xbb\xbf{}",
        b"\xef\xbb\xbf",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        b"1\x00",
        b"\x00",
        b"",
        b" \n",
        b"{}x",
        b'"\x01"',
        b'"\x7f\\u0000\\/"',
        b'"\\x"',
        b'"\\u+0ff"',
        b'{"a": 1,}',
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"\x0b1",
        b"\xa01",
        b"9007199254740993.0",
        b"2.4703282292062328e-324",
        b"1.7976931348623159e308",
        b"1e99999999999999999999",
        b'{"": {"": []}}',
        b"tru",
        b"/**/1",
    ],
)
def test_known_differences_of_fast_readers_are_read_as_the_standard_library_does(data):
    assert_reads_like_the_standard_library(data)


@given(VALUES, st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 1}]))
@settings(max_examples=300)
def test_every_written_value_is_read_as_the_standard_library_reads_it(value, options):
    assert_reads_like_the_standard_library(json.dumps(value, **options).encode("utf-8", "surrogatepass"))


@given(st.text(alphabet="0123456789+-.eE", min_size=1, max_size=30))
@settings(max_examples=300)
@example("1" * 19)
@example("0." + "1" * 25)
@example("-" + "9" * 19)
def test_every_number_is_read_as_the_standard_library_reads_it(text):
    assert_reads_like_the_standard_library(text.encode())
    assert_reads_like_the_standard_library(b'{"a": [' + text.encode() + b"]}")


@given(st.text(alphabet='{}[]",:\\u018dDfeE+-. \n\tnultrasNIy', max_size=20).map(str.encode) | st.binary(max_size=12))
@settings(max_examples=500)
def test_garbage_is_refused_or_read_exactly_when_the_standard_library_does(data):
    assert_reads_like_the_standard_library(data)


@given(VALUES, st.integers(0, 60), st.integers(0, 255))
def test_a_damaged_byte_is_taken_as_the_standard_library_takes_it(value, position, byte):
    data = bytearray(json.dumps(value).encode())
    data[position % len(data)] = byte
    assert_reads_like_the_standard_library(bytes(data))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_read_up_to_a_fixed_depth_and_refused_beyond_it(opening, closing):
    def nested(depth: int) -> bytes:
        return opening * depth + (b"" if opening == b"[" else b"1") + closing * depth

    value, depth = load_json(nested(MAX_DEPTH)), 0
    while isinstance(value, (list, dict)):
        value, depth = next(iter(value.values() if isinstance(value, dict) else value), None), depth + 1
    assert depth == MAX_DEPTH
    for too_deep in (MAX_DEPTH + 1, 500, 1000, 2000, 100_000):
        with pytest.raises(ValueError, match="nested deeper"):
            load_json(nested(too_deep))


def test_many_brackets_side_by_side_are_not_nesting():
    assert load_json(b"[" + b"[[],{}]," * 1000 + b'"[[["]') == [[[], {}]] * 1000 + ["[[["]


def test_an_integer_of_more_digits_than_python_converts_is_a_value_error():
    with pytest.raises(ValueError, match="digits"):
        load_json(b"[" + b"1" * (sys.get_int_max_str_digits() + 1) + b"]")


# --- what a job may be created with ---


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Celsius(float):
    def __repr__(self) -> str:
        return f"{float(self)} C"


class Array:
    """The part of numpy's arrays and scalars that counts here."""

    def __init__(self, content: object) -> None:
        self.content = content

    def tolist(self) -> object:
        return self.content


def test_valid_state_points_become_plain_json_data_with_the_same_order_of_keys():
    given_ = {"t": (1, (2.5, None)), "c": Colour.RED, "s": Size.BIG, "f": Celsius(1.5), "n": {"x": Array([1, 2])}}
    plain = {"t": [1, [2.5, None]], "c": "red", "s": 3, "f": 1.5, "n": {"x": [1, 2]}}
    assert same(validate(given_), plain)


def test_validation_copies_deeply():
    inner = [1]
    clean = validate({"a": {"b": inner}})
    inner.append(2)
    assert clean == {"a": {"b": [1]}}


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), VALUES.filter(lambda v: not isinstance(v, dict))))
def test_what_validates_is_read_back_from_its_file_as_it_was(statepoint):
    try:
        clean = validate(statepoint)
    except InvalidStatePoint:
        assert "." in repr(statepoint) or "''" in repr(statepoint)
        return
    assert same(load_json(encode(clean)), clean)
    assert statepoint_id(load_json(encode(clean))) == statepoint_id(statepoint)


@pytest.mark.parametrize(
    ("statepoint", "message"),
    [
        ([1], "a list"),
        (None, "None"),
        ("foo", "a str"),
        ({"a": {1: 2}}, "a: key 1 is an int"),
        ({"": 1}, "must not be empty"),
        ({"a": [{"": 1}]}, "a.0: .*must not be empty"),
        ({"a.b": 1}, r"'a\.b' contains"),
        ({"x": {"a.b": 1}}, r"x: key 'a\.b' contains"),
        ({"a": {"b": {1, 2}}}, "a.b: a set has no form in JSON"),
        ({"a": b"x"}, "a: a bytes"),
        ({"a": 1j}, "a: a complex"),
        ({"a": object()}, "a: an object"),
        ({"a": [0, int]}, r"a\.1: a type"),
        ({"a": 10**5000}, "a: .*digits"),
    ],
)
def test_what_cannot_be_created_is_refused_with_the_path_to_the_culprit(statepoint, message):
    with pytest.raises(InvalidStatePoint, match=message):
        validate(statepoint)


def test_a_value_whose_tolist_gives_its_own_kind_is_refused():
    with pytest.raises(InvalidStatePoint, match="a: an Array"):
        validate({"a": Array(Array(1))})


def test_a_state_point_that_contains_itself_is_refused():
    mapping, sequence = {}, []
    mapping["a"] = mapping
    sequence.append(sequence)
    for value in (mapping, {"b": sequence}):
        with pytest.raises(InvalidStatePoint, match="contains itself"):
            validate(value)


def test_nesting_is_valid_exactly_as_deep_as_it_can_be_read():
    def nested(depth: int) -> dict:
        value = {}
        for _ in range(depth - 1):
            value = {"a": value}
        return value

    assert load_json(encode(validate(nested(MAX_DEPTH)))) == nested(MAX_DEPTH)
    with pytest.raises(InvalidStatePoint, match="nested deeper"):
        validate(nested(MAX_DEPTH + 1))
