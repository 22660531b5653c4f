"""How a batch is written to the spool on disk: JSON, compressed with zlib, which notices every flipped bit.

A GPU is written once per batch, field by field by name. So entries of an older gpumon, whose `Gpu` had fewer fields,
can be read as long as the new fields have defaults, and fields that are no more are left out.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import TYPE_CHECKING, Any

from gpumon.samples import Batch, Datum, Gpu, MigInstance

if TYPE_CHECKING:
    from collections.abc import Mapping

COMPRESSION_LEVEL = 1
MOST_BYTES = 16 * 1024 * 1024  # an entry is a megabyte at most: this stops a damaged one from filling the memory


class UnreadableEntryError(ValueError):
    """An entry of the spool is damaged, or a later gpumon wrote it."""


def encode(batch: Batch) -> bytes:
    """Return the bytes that stand for a batch."""
    gpus = list(dict.fromkeys(datum.gpu for datum in batch if datum.gpu is not None))
    numbers = {gpu: number for number, gpu in enumerate(gpus)}
    rows = [
        (
            datum.metric,
            datum.unit,
            None if datum.gpu is None else numbers[datum.gpu],
            datum.unix_seconds,
            datum.values,
            datum.counts,
        )
        for datum in batch
    ]
    document = {"gpus": [dataclasses.asdict(gpu) for gpu in gpus], "datums": rows}
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), COMPRESSION_LEVEL)


def decode(payload: bytes) -> Batch:
    """Return the batch that `payload` stands for.

    Raises:
        UnreadableEntryError: It stands for none.
    """
    try:
        decompressor = zlib.decompressobj()
        text = decompressor.decompress(payload, MOST_BYTES)
        if not decompressor.eof:
            raise UnreadableEntryError("The entry is cut off, or too large to be one.")
        document = json.loads(text)
        gpus = [_gpu(fields) for fields in document["gpus"]]
        batch = tuple(
            Datum(metric, unit, None if gpu is None else gpus[gpu], unix_seconds, tuple(values), tuple(counts))
            for metric, unit, gpu, unix_seconds, values, counts in document["datums"]
        )
    except (zlib.error, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableEntryError(f"The entry holds no batch ({type(error).__name__}: {error}).") from error
    if not batch or not all(map(_is_datum, batch)):
        raise UnreadableEntryError("The entry holds no batch.")
    return batch


def _is_datum(datum: Datum) -> bool:
    """Say whether what was read can be sorted, sent and told apart; an entry that is half of one ends the publisher."""
    texts = [datum.metric, datum.unit, *((datum.gpu.uuid, datum.gpu.name) if datum.gpu else ())]
    numbers = (*datum.values, *datum.counts)
    return (
        all(isinstance(text, str) for text in texts)
        and type(datum.unix_seconds) is int
        and all(type(number) in {int, float} for number in numbers)
        and (datum.gpu is None or type(datum.gpu.index) is int)
    )


def _gpu(values: Mapping[str, Any]) -> Gpu:
    mig = values.get("mig")
    known = _known(Gpu, values)
    return Gpu(**{**known, "mig": None if mig is None else MigInstance(**_known(MigInstance, mig))})


def _known(kind: type[Gpu | MigInstance], values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values}
