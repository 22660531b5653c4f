"""The settings of one gpumon process: defaults, then a TOML file, then the environment."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpumon.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_FILE = Path(__file__).with_name("default.toml")
SYSTEM_FILE = Path("/etc/gpumon/gpumon.toml")
ENVIRONMENT_PREFIX = "GPUMON_"
DEFAULT_METADATA_ENDPOINT = "http://169.254.169.254"

LOG_LEVELS = ("debug", "info", "warning", "error")
_NAMESPACE = re.compile(r"[0-9A-Za-z._\-/#]{1,255}")  # CloudWatch, PutMetricData, Namespace
_RANGES = {
    "sample_seconds": (0.1, 60),
    "publish_seconds": (1, 3600),
    "publish_phase_seconds": (0, 60),
    "queue_periods": (1, 10_000),
    "stop_seconds": (0, 60),
}
_FALLBACK_VARIABLES = {
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "metadata_endpoint": ("AWS_EC2_METADATA_SERVICE_ENDPOINT",),
}


@dataclass(frozen=True)
class Settings:
    """Every setting; ``default.toml`` documents each of them."""

    namespace: str
    region: str
    sample_seconds: float
    publish_seconds: int
    publish_phase_seconds: float
    queue_periods: int
    stop_seconds: float
    metadata_endpoint: str
    log_level: str


@dataclass(frozen=True)
class LoadedSettings:
    """Settings, and where each of them came from (key -> words for people)."""

    settings: Settings
    origins: Mapping[str, str]

    def as_toml(self) -> str:
        """Return the effective configuration as TOML, each line with its origin as a comment."""
        lines = [f"{key} = {_toml_value(getattr(self.settings, key))}" for key in self.origins]
        width = max(map(len, lines))
        origins = self.origins.values()
        return "".join(f"{line:<{width}}  # {origin}\n" for line, origin in zip(lines, origins, strict=True))


def load_settings(environment: Mapping[str, str], path: Path | None = None) -> LoadedSettings:
    """Return the settings of this process.

    Args:
        environment: Environment variables of the process.
        path: A settings file, which must exist; None: the system's file, if there is one.

    Raises:
        SettingsError: A file cannot be read, a key is unknown, or a value has the wrong type or is out of range.
    """
    values = _read(DEFAULT_FILE)
    origins = dict.fromkeys(values, "default")
    file = path or SYSTEM_FILE
    for key, value in _read(file, may_be_absent=path is None).items():
        values[key] = _checked(key, value, f"{file}")
        origins[key] = f"{file}"
    for key, value, variable in _from_environment(environment, values):
        values[key] = _checked(key, value, variable)
        origins[key] = f"environment {variable}"
    if not values["metadata_endpoint"]:
        values["metadata_endpoint"] = DEFAULT_METADATA_ENDPOINT
    return LoadedSettings(Settings(**values), origins)


def _read(path: Path, *, may_be_absent: bool = False) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    # ValueError: no UTF-8, no TOML, or a number of thousands of digits; RecursionError: thousands of brackets.
    except (OSError, ValueError, RecursionError) as error:
        if may_be_absent and isinstance(error, FileNotFoundError):
            return {}
        raise SettingsError(f"Repair the settings file {path}: {error}.") from error


def _from_environment(environment: Mapping[str, str], values: Mapping[str, Any]) -> list[tuple[str, object, str]]:
    """Return (key, value, variable) for everything that the environment sets."""
    found: list[tuple[str, object, str]] = []
    for key, variables in _FALLBACK_VARIABLES.items():
        variable = next((name for name in variables if environment.get(name)), None)
        if variable and not values[key] and not environment.get(ENVIRONMENT_PREFIX + key.upper()):
            found.append((key, environment[variable], variable))
    for variable in sorted(environment):
        if variable.startswith(ENVIRONMENT_PREFIX):
            key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            found.append((key, _parsed(key, environment[variable], variable), variable))
    return found


def _types() -> dict[str, str]:
    return {field.name: str(field.type) for field in fields(Settings)}


def _require_known(key: str, where: str) -> str:
    types = _types()
    if key not in types:
        nearest = difflib.get_close_matches(key, types, n=1, cutoff=0.0)[0]
        raise SettingsError(
            f"Remove or correct the unknown setting {key!r} in {where}: the nearest one is {nearest!r}."
        )
    return types[key]


def _parsed(key: str, text: str, variable: str) -> object:
    """Turn the text of an environment variable into the type of its setting."""
    kind = _require_known(key, f"the environment ({variable})")
    try:
        return {"int": int, "float": float, "str": str}[kind](text)
    except ValueError as error:
        raise SettingsError(f"Set {variable} to a value of type {kind}: {text!r} is none.") from error


def _checked(key: str, value: object, where: str) -> object:
    """Return `value` in the type of its setting, or say what is wrong with it."""
    kind = _require_known(key, where)
    if isinstance(value, int) and not isinstance(value, bool) and kind in {"int", "float"}:
        _require_in_range(key, value, where)
        value = float(value) if kind == "float" else value
    if type(value).__name__ != kind:
        raise SettingsError(
            f"Give {key} in {where} a value of type {kind}: {value!r} is of type {type(value).__name__}."
        )
    if isinstance(value, float):
        _require_in_range(key, value, where)
    if key == "log_level" and value not in LOG_LEVELS:
        raise SettingsError(f"Set log_level in {where} to one of {', '.join(LOG_LEVELS)}: it is {value!r}.")
    if key == "namespace" and not _NAMESPACE.fullmatch(str(value)):
        raise SettingsError(f"Set namespace in {where} to 1 to 255 letters, digits and ._-/#: it is {value!r}.")
    if key == "namespace" and str(value).startswith("AWS/"):
        raise SettingsError(f"Set namespace in {where} to one of your own: CloudWatch refuses {value!r}.")
    if key == "metadata_endpoint" and value and not str(value).startswith(("http://", "https://")):
        raise SettingsError(f"Set metadata_endpoint in {where} to a URL that begins with http://: it is {value!r}.")
    return value


def _require_in_range(key: str, value: float, where: str) -> None:
    least, greatest = _RANGES[key]
    if not least <= value <= greatest:  # nor is nan
        shown = "huge" if abs(value) > 1e15 else value  # Python refuses to write integers of thousands of digits
        raise SettingsError(f"Set {key} in {where} between {least} and {greatest}: it is {shown}.")


def _toml_value(value: object) -> str:
    if isinstance(value, str):
        # JSON's escapes are TOML's, once nothing but ASCII is left outside of them.
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return repr(value)
