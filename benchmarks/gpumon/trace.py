"""Writes down which NVML calls a reader makes, with all their arguments, by standing between pynvml and the library."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)
_MAKERS = ("GetHandleBy", "SampleAlloc", "MigDeviceHandleByIndex", "EventSetCreate")
_Pointer = type(ctypes.POINTER(ctypes.c_int))  # the class of pointer classes
_ByReference = type(ctypes.byref(ctypes.c_int()))


class Handle(NamedTuple):
    """Something of the library's that later calls name."""

    number: int


class Number(NamedTuple):
    """An integer that is passed by value."""

    value: int


class Text(NamedTuple):
    """A string that is passed in."""

    value: bytes


class Buffer(NamedTuple):
    """Memory of the caller's, as it was before the call.

    Attributes:
        content: All of it.
        handles: Offset -> number of the handle that stands there.
    """

    content: bytes
    handles: dict[int, int]


Argument = Handle | Number | Text | Buffer | None


@dataclass
class TracedCall:
    """One call.

    Attributes:
        name: The library's function, version suffix included.
        arguments: What it got.
        code: What it returned.
        makes: Number of the handle that it wrote through its last argument, or None.
        ends: Number of the handle that it freed, or None.
        function: The function itself, to be called again.
        raw: The very objects that it got.
    """

    name: str
    arguments: list[Argument]
    code: int
    makes: int | None
    ends: int | None
    function: Callable[..., int]
    raw: tuple[Any, ...]


@dataclass
class Trace:
    """All calls so far, and the handles that are alive."""

    calls: list[TracedCall] = field(default_factory=list)
    holders: dict[int, Any] = field(default_factory=dict)  # handle's number -> the object that holds its address
    _alive: dict[int, int] = field(default_factory=dict)  # address -> number

    def call(self, name: str, function: Callable[..., int], raw: tuple[Any, ...]) -> int:
        """Make a call and write it down."""
        arguments = [self._argument(one) for one in raw]
        code = function(*raw)
        makes = self._made(raw[-1]) if code == 0 and any(maker in name for maker in _MAKERS) else None
        ends = arguments[0].number if "Free" in name and isinstance(arguments[0], Handle) else None
        self.calls.append(TracedCall(name, arguments, code, makes, ends, function, raw))
        return code

    def _made(self, reference: Any) -> int:
        holder = _target(reference)
        number = len(self.holders)
        self.holders[number] = holder
        self._alive[_address_in(holder)] = number
        return number

    def _argument(self, raw: Any) -> Argument:
        if isinstance(raw, _ByReference | ctypes.Array):
            return self._buffer(_target(raw))
        if type(type(raw)) is _Pointer or isinstance(raw, ctypes.c_void_p):
            return self._pointed_at(raw)
        match getattr(raw, "value", raw):  # ctypes numbers and strings, or Python's own
            case None:
                return None
            case int(value):
                return Number(value)
            case bytes(value):
                return Text(value)
        raise TypeError(f"Teach benchmarks/gpumon/trace.py what an argument of type {type(raw).__name__} is.")

    def _pointed_at(self, raw: Any) -> Argument:
        address = _address_in(raw)
        if address in self._alive:
            return Handle(self._alive[address])
        return self._buffer(raw.contents) if address else None

    def _buffer(self, target: Any) -> Buffer:
        content = bytes(ctypes.string_at(ctypes.addressof(target), ctypes.sizeof(target)))
        handles = {}
        for offset in range(0, len(content) - _POINTER_BYTES + 1, _POINTER_BYTES):
            word = int.from_bytes(content[offset : offset + _POINTER_BYTES], "little")
            if word in self._alive:
                handles[offset] = self._alive[word]
        return Buffer(content, handles)


@contextmanager
def tracing() -> Iterator[Trace]:
    """Write down every call that pynvml makes within the block."""
    trace = Trace()
    inner = pynvml._nvmlGetFunctionPointer  # noqa: SLF001 - the one place that all its calls go through

    def traced(name: str) -> Callable[..., int]:
        function = inner(name)
        return lambda *raw: trace.call(name, function, raw)

    pynvml._nvmlGetFunctionPointer = traced  # noqa: SLF001
    try:
        yield trace
    finally:
        pynvml._nvmlGetFunctionPointer = inner  # noqa: SLF001


def carried_over(collection: list[TracedCall]) -> list[tuple[int, int]]:
    """Return which handle stands in the place of which at the end of a collection: (freed in it, made in it)."""
    made = [call.makes for call in collection if call.makes is not None]
    ended = [call.ends for call in collection if call.ends is not None]
    stay = [number for number in made if number not in ended]
    return list(zip([number for number in ended if number not in made], stay, strict=True))


def _target(reference: Any) -> Any:
    return reference if isinstance(reference, ctypes.Array) else reference._obj  # noqa: SLF001 - ctypes's own


def _address_in(holder: Any) -> int:
    return int.from_bytes(ctypes.string_at(ctypes.addressof(holder), _POINTER_BYTES), "little")
