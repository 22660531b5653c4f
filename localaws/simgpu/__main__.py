"""Scripts the GPUs of one machine from a shell: `python -m localaws.simgpu DIRECTORY COMMAND ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from localaws.simgpu.errors import SimgpuError, UnknownValueError
from localaws.simgpu.gpu_values import NvmlReturn
from localaws.simgpu.gpus import SimulatedGpus


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 2 usage, 3 the state cannot be read or written."""
    arguments = _parser().parse_args(argv)
    try:
        _run(SimulatedGpus(arguments.directory), arguments)
    except SimgpuError as error:
        sys.stderr.write(f"simgpu: {error}\n")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localaws.simgpu", description=__doc__)
    parser.add_argument("directory", type=Path, help="state directory of the machine")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", help="print the state of the driver and of every GPU")
    install = commands.add_parser("install", help="give the machine the GPUs of an instance type")
    install.add_argument("instance_type")
    install.add_argument("instance_id")
    values = commands.add_parser("set", help="set values of a GPU")
    values.add_argument("gpu", type=int)
    values.add_argument("values", nargs="+", metavar="KEY=VALUE", help="a number, or none: not supported")
    fail = commands.add_parser("fail", help="make an NVML function fail")
    fail.add_argument("gpu", type=_gpu, help="index, or all")
    fail.add_argument("function")
    fail.add_argument("code", help="return code of nvml.h: a number or a name such as NOT_SUPPORTED")
    heal = commands.add_parser("heal", help="undo fail, for one function or all")
    heal.add_argument("gpu", type=_gpu, help="index, or all")
    heal.add_argument("function", nargs="?")
    for name, text in (("lose", "let a GPU fall off the bus"), ("restore", "bring a lost GPU back")):
        commands.add_parser(name, help=text).add_argument("gpu", type=int)
    commands.add_parser("unload", help="unload the driver")
    commands.add_parser("load", help="load the driver")
    return parser


def _run(gpus: SimulatedGpus, arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "show":
            _show(gpus)
        case "install":
            count = gpus.install(arguments.instance_type, arguments.instance_id)
            sys.stdout.write(f"{count}\n")
        case "set":
            gpus.set(arguments.gpu, **dict(map(_assignment, arguments.values)))
        case "fail":
            gpus.fail(arguments.gpu, arguments.function, _code(arguments.code))
        case "heal":
            gpus.heal(arguments.gpu, arguments.function)
        case "lose":
            gpus.lose(arguments.gpu)
        case "restore":
            gpus.restore(arguments.gpu)
        case "unload":
            gpus.unload_driver()
        case "load":
            gpus.load_driver()


def _show(gpus: SimulatedGpus) -> None:
    for index in (None, *range(gpus.count)):
        sys.stdout.write("[driver]\n" if index is None else f"\n[gpu {index}]\n")
        for key, value in gpus.read(index).items():
            sys.stdout.write(f"{key}={value}\n")


def _gpu(text: str) -> int | None:
    return None if text == "all" else int(text)


def _assignment(text: str) -> tuple[str, int | None]:
    key, _, value = text.partition("=")
    if value == "none":
        return key, None
    try:
        return key, int(value, 0)
    except ValueError as error:
        raise UnknownValueError(f"Write KEY=NUMBER or KEY=none, not {text!r}.") from error


def _code(text: str) -> int:
    name = text.removeprefix("NVML_ERROR_")
    if name in NvmlReturn.__members__:
        return NvmlReturn[name]
    try:
        return int(text)
    except ValueError as error:
        known = ", ".join(NvmlReturn.__members__)
        raise UnknownValueError(f"Unknown return code {text!r}: use a number or one of {known}.") from error


if __name__ == "__main__":
    sys.exit(main())
