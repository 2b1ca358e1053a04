"""Messages: there and back unchanged, and nothing else gets through."""

from __future__ import annotations

import typing
from collections.abc import Callable
from types import UnionType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipyasyncresult.wire import messages as m

bounded = settings(max_examples=30, deadline=None, derandomize=True)

Decoder = Callable[[bytes], Any]
DIRECTIONS: dict[str, tuple[Any, Decoder]] = {
    "from_client": (m.FromClient, m.decode_from_client),
    "from_engine": (m.FromEngine, m.decode_from_engine),
    "to_engine": (m.ToEngine, m.decode_to_engine),
    "from_hub": (m.FromHub, m.decode_from_hub),
}

each_kind = pytest.mark.parametrize(
    ("kind", "decode"),
    [
        pytest.param(kind, decode, id=kind.__name__)
        for union, decode in DIRECTIONS.values()
        for kind in typing.get_args(union)
    ],
)
each_decoder = pytest.mark.parametrize(
    "decode", [pytest.param(decode, id=name) for name, (_, decode) in DIRECTIONS.items()]
)

texts = st.text(max_size=8)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(0, 1) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    str: texts,
    bytes: st.binary(max_size=8),
    bool: st.booleans(),
    type(None): st.none(),
    Any: plain,
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    arguments = [values_of(argument) for argument in typing.get_args(kind)]
    origin = typing.get_origin(kind)
    if origin is list:
        return st.lists(arguments[0], max_size=3)
    if origin is tuple:
        return st.tuples(*arguments)
    if origin is dict:
        return st.dictionaries(*arguments, max_size=3)
    if origin in (typing.Union, UnionType):
        return st.one_of(arguments)
    return st.builds(kind, *[values_of(field.type) for field in msgspec.structs.fields(kind)])


@each_kind
def test_a_message_arrives_as_it_was_sent(kind: type[msgspec.Struct], decode: Decoder) -> None:
    @given(values_of(kind))
    @settings(bounded, max_examples=8)
    def check(message: msgspec.Struct) -> None:
        arrived = decode(m.encode(message))
        assert type(arrived) is kind
        assert arrived == message

    check()


def test_every_kind_of_a_direction_has_a_tag_of_its_own() -> None:
    for union, _ in DIRECTIONS.values():
        tags = [kind.__struct_config__.tag for kind in typing.get_args(union)]
        assert len(set(tags)) == len(tags)


def refused(decode: Decoder, data: bytes) -> bool:
    """Whether it is refused, in one of the ways that are expected."""
    try:
        decode(data)
    except m.MALFORMED:
        return True
    return False


@each_decoder
def test_random_bytes_raise_nothing_but_what_is_expected(decode: Decoder) -> None:
    @given(st.binary(max_size=80))
    @bounded
    def check(data: bytes) -> None:
        refused(decode, data)

    check()


@each_kind
def test_damaged_messages_raise_nothing_but_what_is_expected(
    kind: type[msgspec.Struct], decode: Decoder
) -> None:
    @given(values_of(kind), st.data())
    @settings(bounded, max_examples=8)
    def check(message: msgspec.Struct, data: st.DataObject) -> None:
        whole = m.encode(message)
        cut = data.draw(st.integers(0, len(whole) - 1))
        assert refused(decode, whole[:cut])
        damaged = bytearray(whole)
        damaged[cut] ^= data.draw(st.integers(1, 255))
        refused(decode, bytes(damaged))

    check()


@each_decoder
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",  # no tag
        b"\x91\x7f",  # an unknown one
        b"\x93\x03\x01" + b"\x91" * 100_000,  # deeper than any stack
        b"\x92\x01\xa2\xff\xff",  # no UTF-8
        b"\x93\x03\x01\xdd\xff\xff\xff\xff",  # four billion items to come
        b"\x93\x03\x01\xc6\xff\xff\xff\xff",  # four gigabytes to come
        b"\x93\x03\x01\x81\x81\x01\x02\x03",  # a dict as a key
        b"\x93\x03\x01\xc7\x0c\xff" + b"\xff" * 12,  # a time that never was
    ],
    ids=["empty", "bare", "tag", "deep", "text", "items", "bytes", "key", "time"],
)
def test_hostile_bytes_are_refused(decode: Decoder, data: bytes) -> None:
    assert refused(decode, data)


def test_what_is_left_out_at_the_end_has_its_default() -> None:
    submit = m.decode_from_client(msgspec.msgpack.encode([1, [b"f"], [["a", 0, b"args"]]]))
    assert submit == m.Submit([b"f"], [m.Task("a", 0, b"args")])
    assert submit.tasks[0].target == -1
    assert submit.group is None


def test_a_field_of_another_type_is_refused_by_its_place() -> None:
    run = msgspec.msgpack.encode([0, [b"f"], [["a", 0, b"args"], [7, 0, b"args"]]])
    with pytest.raises(
        msgspec.ValidationError, match=r"Expected `str`, got `int` - at `\$\[2\]\[1\]"
    ):
        m.decode_to_engine(run)
