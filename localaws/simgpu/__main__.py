"""Scripts the GPUs of one machine from a shell: `python -m localaws.simgpu DIRECTORY COMMAND ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from localaws.simgpu import driver
from localaws.simgpu.errors import SimgpuError, UnknownValueError
from localaws.simgpu.gpu_values import Loss, NvmlReturn
from localaws.simgpu.gpus import SimulatedGpus
from localaws.simgpu.xids import NO_INSTANCE


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
    field = commands.add_parser("fail-field", help="make one entry of nvmlDeviceGetFieldValues fail")
    field.add_argument("gpu", type=int)
    field.add_argument("field", type=int, help="NVML_FI_DEV_* number")
    field.add_argument("code", help="as of fail")
    hang = commands.add_parser("hang", help="make an NVML function block until it is healed")
    hang.add_argument("gpu", type=_gpu, help="index, or all")
    hang.add_argument("function")
    lose = commands.add_parser("lose", help="let a GPU fall off the bus")
    lose.add_argument("gpu", type=int)
    lose.add_argument("--how", default="lost", choices=[loss.name.lower() for loss in Loss])
    commands.add_parser("restore", help="bring a lost GPU back").add_argument("gpu", type=int)
    _add_parsers_of_more(commands)
    return parser


def _add_parsers_of_more(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    xid = commands.add_parser("xid", help="let an Xid error strike a GPU")
    xid.add_argument("gpu", type=int)
    xid.add_argument("number", type=int)
    xid.add_argument("--gpu-instance", type=int, default=NO_INSTANCE)
    xid.add_argument("--compute-instance", type=int, default=NO_INSTANCE)
    xid.add_argument("--no-event", action="store_true", help="kernel log only")
    xid.add_argument("--no-log", action="store_true", help="NVML event only")
    samples = commands.add_parser("samples", help="set the pattern of buffered utilization samples")
    samples.add_argument("gpu", type=int)
    samples.add_argument("patterns", nargs="+", metavar="KEY=PERCENT,PERCENT,...", help="or KEY=none")
    mig = commands.add_parser("mig", help="turn MIG mode on or off")
    mig.add_argument("gpu", type=int)
    mig.add_argument("devices", nargs="+", metavar="PROFILE=USED_BYTES", help="a slot each; none: empty slot; or off")
    commands.add_parser("upgrade", help="replace the driver under running programs").add_argument("version")
    unload = commands.add_parser("unload", help="unload the driver")
    unload.add_argument("--code", default="UNKNOWN", help="what programs get that were using it")
    commands.add_parser("load", help="load the driver")
    build = commands.add_parser("driver", help="build the driver's libraries, for LD_LIBRARY_PATH")
    build.add_argument("destination", type=Path, help="folder for libnvidia-ml.so.1 and libcuda.so.1")


def _run(gpus: SimulatedGpus, arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "show":
            _show(gpus)
        case "install":
            count = gpus.install(arguments.instance_type, arguments.instance_id)
            sys.stdout.write(f"{count}\n")
        case "set":
            gpus.set(arguments.gpu, **dict(map(_assignment, arguments.values)))
        case "load":
            gpus.load_driver()
        case "driver":
            arguments.destination.mkdir(parents=True, exist_ok=True)
            driver.build(arguments.destination)
        case "samples":
            gpus.set_samples(arguments.gpu, **dict(map(_pattern, arguments.patterns)))
        case "mig":
            off = arguments.devices == ["off"]
            gpus.set_mig(arguments.gpu, None if off else [_mig_device(device) for device in arguments.devices])
        case "upgrade":
            gpus.upgrade_driver(arguments.version)
        case "unload":
            gpus.unload_driver(_code(arguments.code))
        case _:
            _run_fault(gpus, arguments)


def _run_fault(gpus: SimulatedGpus, arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "fail":
            gpus.fail(arguments.gpu, arguments.function, _code(arguments.code))
        case "heal":
            gpus.heal(arguments.gpu, arguments.function)
        case "fail-field":
            gpus.fail_field(arguments.gpu, arguments.field, _code(arguments.code))
        case "hang":
            gpus.hang(arguments.gpu, arguments.function)
        case "lose":
            gpus.lose(arguments.gpu, arguments.how)
        case "restore":
            gpus.restore(arguments.gpu)
        case "xid":
            gpus.xid(
                arguments.gpu,
                arguments.number,
                gpu_instance_id=arguments.gpu_instance,
                compute_instance_id=arguments.compute_instance,
                event=not arguments.no_event,
                log=not arguments.no_log,
            )


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


def _pattern(text: str) -> tuple[str, list[int] | None]:
    key, _, value = text.partition("=")
    if value == "none":
        return key, None
    try:
        return key, [int(word) for word in value.split(",")]
    except ValueError as error:
        raise UnknownValueError(f"Write KEY=PERCENT,PERCENT,... or KEY=none, not {text!r}.") from error


def _mig_device(text: str) -> tuple[str, int] | None:
    if text == "none":
        return None
    profile, _, value = text.partition("=")
    try:
        return profile, int(value)
    except ValueError as error:
        raise UnknownValueError(f"Write PROFILE=USED_BYTES, none, or off alone, not {text!r}.") from error


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
