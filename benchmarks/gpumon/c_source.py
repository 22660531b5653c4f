"""Writes traced calls down as C, for same_calls.c to include; the compiler checks them against nvml.h."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.gpumon.trace import Buffer, Handle, Number, Text, carried_over

if TYPE_CHECKING:
    from benchmarks.gpumon.trace import Argument, TracedCall

_MICROSECONDS = 1_000_000
_HOUR = 3600 * _MICROSECONDS


def write(before: list[TracedCall], collection: list[TracedCall], handle_count: int) -> str:
    """Return C that makes the calls of `before` once, and those of `collection` once per call of a function.

    Args:
        before: Calls from the first one on, until right before the collection.
        collection: Calls of one collection that can follow itself.
        handle_count: Handles that all of them make.
    """
    declarations: list[str] = []
    setup = [line for number, call in enumerate(before) for line in _call(call, f"s{number}", declarations)]
    body = [line for number, call in enumerate(collection) for line in _call(call, f"c{number}", declarations)]
    body += [f"handle[{old}] = handle[{new}];" for old, new in carried_over(collection)]
    lines = [
        f"static void *handle[{max(1, handle_count)}];",
        *declarations,
        *("static void set_up(void)", "{", *setup, "}"),
        *("static void collect(void)", "{", *body, "}"),
    ]
    return "\n".join(lines) + "\n"


def _call(call: TracedCall, name: str, declarations: list[str]) -> list[str]:
    lines = []
    arguments = []
    for position, argument in enumerate(call.arguments):
        is_made = call.makes is not None and position == len(call.arguments) - 1
        if isinstance(argument, Buffer) and not is_made:
            buffer = f"{name}_{position}"
            declarations += _declared(buffer, argument.content)
            lines.append(f"memcpy({buffer}, {buffer}_before, sizeof {buffer});")
            lines += [
                f"memcpy({buffer} + {at}, &handle[{one}], sizeof(void *));" for at, one in argument.handles.items()
            ]
            arguments.append(f"(void *){buffer}")
        else:
            arguments.append(f"(void *)&handle[{call.makes}]" if is_made else _by_value(argument))
    lines.append(f"CALL({call.code}, {call.name}({', '.join(arguments)}));")
    return lines


def _declared(name: str, content: bytes) -> list[str]:
    values = ",".join(map(str, content))
    return [
        f"static const unsigned char {name}_before[{len(content)}] = {{{values}}};",
        f"static _Alignas(16) unsigned char {name}[{len(content)}];",
    ]


def _by_value(argument: Argument) -> str:
    match argument:
        case None:
            return "NULL"
        case Handle(number):
            return f"handle[{number}]"
        case Text(value):
            return '"' + "".join(f"\\{byte:03o}" for byte in value.rstrip(b"\0")) + '"'
        case Number(value):
            ago = int(time.time() * _MICROSECONDS) - value
            # A point in time: samples since then are asked for, and there must be as many as there were.
            return f"microseconds_ago({ago}LL)" if abs(ago) < _HOUR else f"{value}{'ULL' if value > 2**31 else ''}"
        case _:
            raise TypeError(f"Teach benchmarks/gpumon/c_source.py to pass a {type(argument).__name__}.")
