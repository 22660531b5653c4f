from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.samples import Datum, Gpu, MigInstance
from gpumon.spool_format import UnreadableEntryError, decode, encode
from tests.gpumon.fakes import GPU, OTHER_GPU, datum

MIG = Gpu("GPU-cccc", 2, "A100", "0000:00:1E.0", 2, MigInstance(3, "1g.5gb", "MIG-dddd"))

numbers = st.floats(allow_nan=False, allow_infinity=False)
datums = st.builds(
    Datum,
    st.text(max_size=10),
    st.sampled_from(["Bytes", "None"]),
    st.sampled_from([GPU, OTHER_GPU, MIG, None]),
    st.integers(0, 2**40),
    st.lists(numbers, max_size=5).map(tuple),
    st.lists(st.integers(1, 1000), max_size=5).map(tuple),
)


@given(st.lists(datums, min_size=1, max_size=6).map(tuple))
def test_a_batch_comes_back_as_it_was(batch: tuple[Datum, ...]) -> None:
    assert decode(encode(batch)) == batch


@given(st.binary(max_size=50) | st.binary(max_size=50).map(zlib.compress))
def test_bytes_of_another_origin_are_told_apart_from_a_batch(payload: bytes) -> None:
    with pytest.raises(UnreadableEntryError):
        decode(payload)


@given(st.data())
def test_a_flipped_byte_never_makes_another_batch(data: st.DataObject) -> None:
    batch = (datum(1), datum(2, gpu=MIG))
    payload = bytearray(encode(batch))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        decoded = decode(bytes(payload))
    except UnreadableEntryError:
        return
    assert decoded == batch  # it was one of the bits that mean nothing


def test_a_gpu_of_an_older_or_a_later_gpumon_is_read_as_far_as_it_is_known() -> None:
    document = {
        "gpus": [{"uuid": "GPU-aaaa", "index": 0, "name": "Tesla T4", "colour": "green"}],
        "datums": [["M", "None", 0, 60, [1.0], [1]]],
    }

    assert decode(zlib.compress(json.dumps(document).encode())) == (Datum("M", "None", GPU, 60, (1.0,), (1,)),)


def test_an_entry_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(UnreadableEntryError):
        decode(zlib.compress(b'{"gpus": [], "datums": []' + b" " * (17 * 1024 * 1024) + b"}"))
