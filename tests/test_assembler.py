"""Fragments become messages, within bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from django_wsredis.exceptions import ConnectionClosed
from django_wsredis.loop.assembler import (
    FRAGMENT_BYTES,
    FRAGMENTS_BYTES_AT_LEAST,
    Assembler,
    seconds_allowed,
    text_or_binary,
)

MIB = 1024 * 1024

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
cuts = st.lists(st.integers(0, 250), max_size=12)


def fragments(data: bytes, cuts: list[int], opcode: Opcode) -> list[Frame]:
    """Return the fragments of a message, some of them empty."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    return [
        Frame(Opcode.CONT if index else opcode, piece, fin=index == len(pieces) - 1)
        for index, piece in enumerate(pieces)
    ]


def assemble(frames: list[Frame], max_bytes: int = MIB) -> Assembler:
    assembler = Assembler(frames[0], max_bytes)
    for frame in frames[1:]:
        assembler.add(frame)
    return assembler


@given(texts, cuts)
@example("\U0001f600é", [0, 0, 1, 2, 3, 4, 5, 6])
@example("", [])
def test_a_text_in_any_fragments_arrives_whole(text: str, cuts: list[int]) -> None:
    whole = assemble(fragments(text.encode(), cuts, Opcode.TEXT))
    assert (whole.payload.decode(), whole.is_text) == (text, True)


@given(st.binary(max_size=250), cuts)
def test_binary_data_in_any_fragments_arrives_whole(data: bytes, cuts: list[int]) -> None:
    whole = assemble(fragments(data, cuts, Opcode.BINARY))
    assert (bytes(whole.payload), whole.is_text) == (data, False)


@given(texts, cuts, st.sampled_from([bytes, bytearray, memoryview]))
def test_the_protocols_kinds_of_bytes_make_no_difference(text: str, cuts: list[int], kind: type) -> None:
    frames = fragments(text.encode(), cuts, Opcode.TEXT)
    for frame in frames:
        frame.data = kind(frame.data)
    assert bytes(assemble(frames).payload) == text.encode()


def is_beginning_of_utf8(data: bytes, is_all: bool) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # of a surrogate, ED A0 to ED BF, Python's decoder waits for the third byte before it refuses it
        is_surrogate = data[error.start] == 0xED and len(data) == error.start + 2 and 0xA0 <= data[-1] <= 0xBF
        return not is_all and (is_surrogate or (error.reason == "unexpected end of data" and error.end == len(data)))
    return True


@given(texts.map(str.encode), st.binary(max_size=4), texts.map(str.encode), cuts)
@example(b"ok", b"\xff", b"ok", [1, 2, 3])
@example(b"", "é".encode()[:1], b"", [1])
@example(b"", b"\xed\xa0\x80", b"", [1, 2])  # a surrogate
@example(b"", b"\xf4\x90\x80\x80", b"", [1, 2, 3])  # above U+10FFFF
@example(b"", b"\xc0\xaf", b"", [1])  # overlong
def test_a_text_that_is_none_is_refused_at_the_first_fragment_that_shows_it(
    before: bytes, junk: bytes, after: bytes, cuts: list[int]
) -> None:
    frames = fragments(before + junk + after, cuts, Opcode.TEXT)
    so_far = b""
    wrong = None
    for index, frame in enumerate(frames):
        so_far += bytes(frame.data)
        if not is_beginning_of_utf8(so_far, is_all=frame.fin):
            wrong = index
            break
    if wrong is None:
        assert bytes(assemble(frames).payload) == so_far
        return
    if wrong > 0:
        assembler = assemble(frames[:wrong])
        with pytest.raises(UnicodeDecodeError):
            assembler.add(frames[wrong])
    else:
        with pytest.raises(UnicodeDecodeError):
            Assembler(frames[0], MIB)


def test_binary_data_need_not_be_utf8() -> None:
    assert bytes(assemble(fragments(b"\xff\xfe", [1], Opcode.BINARY)).payload) == b"\xff\xfe"


def add_until_refused(assembler: Assembler, data: bytes, at_most: int) -> int:
    """Return how many fragments were taken, the first included."""
    for count in range(1, at_most):
        try:
            assembler.add(Frame(Opcode.CONT, data, fin=False))
        except ConnectionClosed as closed:
            assert closed.code == 1009
            return count
    raise AssertionError(f"{at_most} fragments were taken")


@pytest.mark.parametrize("data", [b"", b"x"])
@pytest.mark.parametrize("max_bytes", [1, 1000, 256 * 1024, MIB])
def test_tiny_fragments_cannot_go_on_for_ever(data: bytes, max_bytes: int) -> None:
    assembler = Assembler(Frame(Opcode.BINARY, data, fin=False), max_bytes)
    allowed = max(max_bytes, FRAGMENTS_BYTES_AT_LEAST) // FRAGMENT_BYTES
    assert add_until_refused(assembler, data, allowed + 10) == allowed


@pytest.mark.parametrize("max_bytes", [1, 16 * 1024, MIB])
def test_any_message_of_4096_fragments_is_taken(max_bytes: int) -> None:
    data = b"x" * (max_bytes // 4096)
    frames = fragments(data * 4096, [len(data) * n for n in range(1, 4096)], Opcode.BINARY)
    assert len(frames) == 4096
    assert len(assemble(frames, max_bytes).payload) == len(data) * 4096


def test_autobahns_4_mib_in_fragments_of_64_bytes_are_taken() -> None:
    size = 4 * MIB
    assembler = Assembler(Frame(Opcode.BINARY, bytes(64), fin=False), size)
    for _ in range(size // 64 - 1):
        assembler.add(Frame(Opcode.CONT, bytes(64), fin=False))
    assert len(assembler.payload) == size


def test_a_larger_limit_gives_more_time() -> None:
    assert seconds_allowed(1) >= 60
    assert seconds_allowed(MIB) < seconds_allowed(16 * MIB)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Frame(Opcode.TEXT, "é".encode()), ("é".encode(), True)),
        (Frame(Opcode.TEXT, b""), (b"", True)),
        (Frame(Opcode.TEXT, memoryview(b"a")), (b"a", True)),
        (Frame(Opcode.BINARY, bytearray(b"\xff")), (b"\xff", False)),
        (Frame(Opcode.BINARY, b""), (b"", False)),
    ],
)
def test_an_unfragmented_message_is_its_frame(frame: Frame, expected: tuple[bytes, bool]) -> None:
    assert text_or_binary(frame) == expected


@pytest.mark.parametrize("data", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_an_unfragmented_text_must_be_utf8(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        text_or_binary(Frame(Opcode.TEXT, data))
