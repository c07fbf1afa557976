"""The codec: the vectors that the Rust crate runs too, and round trips of anything."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster import _wire

VECTORS = Path(__file__).resolve().parents[2] / "wire" / "vectors"
items = st.lists(st.binary(max_size=50), max_size=20)
numbers = st.integers(0, 2**63)
attempts = st.integers(0, 2**32 - 1)


def vectors(file: str) -> List[Any]:
    found = json.loads((VECTORS / f"{file}.json").read_text())
    return [pytest.param(vector, id=vector["name"]) for vector in found]


def check(vector: Dict[str, Any], decode: Callable[[bytes], Tuple[Any, bytes]]) -> None:
    """Decodes a vector: the result is as written there, and gives the same bytes again."""
    data = bytes.fromhex(vector["hex"])
    if "error" in vector:
        with pytest.raises(_wire.WireError) as caught:
            decode(data)
        assert caught.value.code == vector["error"]
        return
    decoded, encoded = decode(data)
    assert decoded == vector["decoded"]
    if not any(word in vector["name"] for word in ("ignored", "skipped")):
        assert encoded == data


@pytest.mark.parametrize("vector", vectors("frames"))
def test_frames_are_cut_as_the_vectors_say(vector: Dict[str, Any]) -> None:
    decoder = _wire.Decoder(vector.get("limit", _wire.MAX_FRAME))
    data = bytes.fromhex(vector["hex"])
    decoder.push(data)
    if "error" in vector:
        with pytest.raises(_wire.WireError) as caught:
            list(decoder)
        assert caught.value.code == vector["error"]
        return
    frames = [{"kind": k, "seq": s, "body": body.hex()} for k, s, body in decoder]
    assert frames == vector["frames"]
    assert decoder.empty == (vector["rest"] == 0)
    if not any(word in vector["name"] for word in ("ignored", "skipped")):
        whole = [_wire.frame(f["kind"], bytes.fromhex(f["body"]), f["seq"]) for f in frames]
        assert b"".join(whole) == data[: len(data) - vector["rest"]]


@pytest.mark.parametrize("vector", vectors("inputs"))
def test_inputs_are_read_as_the_vectors_say(vector: Dict[str, Any]) -> None:
    def decode(data: bytes) -> Tuple[Any, bytes]:
        first, attempt, found = _wire.decode_inputs(data)
        decoded = {"first": first, "attempt": attempt, "items": [item.hex() for item in found]}
        return decoded, _wire.inputs_frame(first, found, attempt)[16:]

    check(vector, decode)


@pytest.mark.parametrize("vector", vectors("outputs"))
def test_outputs_are_read_as_the_vectors_say(vector: Dict[str, Any]) -> None:
    def decode(data: bytes) -> Tuple[Any, bytes]:
        first, attempt, found = _wire.decode_outputs(data)
        outputs = [{"status": status, "item": item.hex()} for status, item in found]
        again = _wire.outputs_frame(first, attempt, found)[16:]
        return {"first": first, "attempt": attempt, "outputs": outputs}, again

    check(vector, decode)


@pytest.mark.parametrize("vector", vectors("print"))
def test_prints_are_read_as_the_vectors_say(vector: Dict[str, Any]) -> None:
    def decode(data: bytes) -> Tuple[Any, bytes]:
        found = _wire.decode_print(data)
        decoded = dict(zip(("index", "attempt", "stream", "bytes"), found))
        decoded["bytes"] = found[3].hex()
        return decoded, _wire.print_frame(*found)[16:]

    check(vector, decode)


@pytest.mark.parametrize("vector", vectors("results"))
def test_results_are_read_as_the_vectors_say(vector: Dict[str, Any]) -> None:
    def decode(data: bytes) -> Tuple[Any, bytes]:
        found = _wire.decode_results(data)
        names = ("index", "out_end", "err_end", "status", "items", "count")
        decoded = [{**dict(zip(names, record)), "items": record[4].hex()} for record in found]
        return decoded, b"".join(_wire.record(*record) for record in found)

    check(vector, decode)


@pytest.mark.parametrize("vector", vectors("exception"))
def test_exceptions_are_read_as_the_vectors_say(vector: Dict[str, Any]) -> None:
    def decode(data: bytes) -> Tuple[Any, bytes]:
        head, detail = _wire.split_exception(data)
        decoded = {**json.loads(head), "detail": detail.hex()}
        decoded.pop("module", None)
        return decoded, _wire.exception_item(head, detail)

    check(vector, decode)


@given(numbers, items, attempts)
def test_inputs_survive_the_wire(first: int, found: List[bytes], attempt: int) -> None:
    body = _wire.inputs_frame(first, found, attempt)[16:]
    assert _wire.decode_inputs(body) == (first, attempt, found)


@given(numbers, st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=50))), attempts)
def test_outputs_survive_the_wire(first: int, found: List[Tuple[int, bytes]], attempt: int) -> None:
    body = _wire.outputs_frame(first, attempt, found)[16:]
    assert _wire.decode_outputs(body) == (first, attempt, found)


@given(st.lists(st.tuples(st.sampled_from([1, 2, 7, 36]), st.binary(max_size=40))), st.data())
def test_frames_cut_anywhere_come_out_whole(
    frames: List[Tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(_wire.frame(kind, body, 5) for kind, body in frames)
    decoder = _wire.Decoder()
    found = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        decoder.push(stream[:cut])
        stream = stream[cut:]
        found += list(decoder)
    assert found == [(kind, 5, body) for kind, body in frames]
    assert decoder.empty


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    def frames(data: bytes) -> None:
        decoder = _wire.Decoder(1 << 16)
        decoder.push(data)
        list(decoder)

    decoders: List[Callable[[bytes], Any]] = [
        frames, _wire.decode_inputs, _wire.decode_outputs, _wire.decode_print,
        _wire.decode_results, _wire.split_exception,
    ]  # fmt: skip
    for decode in decoders:
        try:
            decode(data)
        except _wire.WireError as error:
            assert error.code in ("too_long", "unknown_kind", "malformed")


def test_large_items_are_views_of_their_frame_and_small_ones_are_bytes() -> None:
    big = bytes(1 << 20)
    _, _, found = _wire.decode_outputs(_wire.outputs_frame(0, 1, [(0, big), (1, b"small")])[16:])
    assert isinstance(found[0][1], memoryview)
    assert found[0][1] == big
    assert found[1] == (1, b"small")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.lists(st.tuples(st.booleans(), st.integers(20_000, 400_000)), min_size=1, max_size=8),
)
def test_large_frames_come_whole_however_they_are_fed(
    sizes: List[int], cuts: List[Tuple[bool, int]]
) -> None:
    bodies = [bytes([number]) * (size * 200_000 + number) for number, size in enumerate(sizes, 1)]
    stream = memoryview(b"".join(_wire.frame(_wire.OUTPUTS, body, 7) for body in bodies))
    decoder = _wire.Decoder()
    found = []
    for straight, cut in itertools.cycle(cuts):
        if not stream:
            break
        room = decoder.room()
        count = min(cut, len(stream))
        if room is not None and straight:
            count = min(count, len(room))
            room[:count] = stream[:count]
            decoder.wrote(count)
        else:
            decoder.push(stream[:count])
        stream = stream[count:]
        found += [(kind, seq, bytes(body)) for kind, seq, body in decoder]
    assert found == [(_wire.OUTPUTS, 7, body) for body in bodies]
    assert decoder.empty


def test_memory_is_used_again_only_when_nobody_looks_at_it() -> None:
    reused = _wire.Reused()
    view = reused.view(1 << 20)
    view[:5] = b"first"
    item = view[:5]
    del view
    other = reused.view(1 << 20)
    other[:5] = b"other"
    assert item == b"first"
    del item, other
    assert reused.view(1 << 20)[:5] == b"other"


@given(items, st.integers(0, 3))
def test_inputs_in_parts_are_the_same_frame(found: List[bytes], large: int) -> None:
    found = found[:3] + [bytes([number]) * 100_000 for number in range(large)]
    parts = _wire.inputs_parts(3, [_wire.run_of([item]) for item in found])
    assert b"".join(parts) == _wire.inputs_frame(3, found)
    assert all(any(part is item for part in parts) for item in found if len(item) > 65536)
