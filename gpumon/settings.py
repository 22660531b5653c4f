"""The settings of one gpumon process: defaults, then a TOML file, then the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpumon.errors import SettingsError
from gpumon.settings_file import SettingsFile, read_settings_file
from gpumon.settings_values import checked, nearest, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_FILE = Path(__file__).with_name("default.toml")
SYSTEM_FILE = Path("/etc/gpumon/gpumon.toml")
ENVIRONMENT_PREFIX = "GPUMON_"
DEFAULT_METADATA_ENDPOINT = "http://169.254.169.254"
METADATA_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

_FALLBACK_VARIABLES = {
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "metadata_endpoint": (METADATA_VARIABLE,),
    # Set by systemd (systemd.exec(5)); several directories stand in one variable, with a colon between them.
    "state_directory": ("STATE_DIRECTORY",),
    "runtime_directory": ("RUNTIME_DIRECTORY",),
}
_DIRECTORY_LISTS = ("STATE_DIRECTORY", "RUNTIME_DIRECTORY")


@dataclass(frozen=True)
class Settings:
    """Every setting; ``default.toml`` documents each of them."""

    namespace: str
    region: str
    sample_seconds: float
    slow_seconds: float
    publish_seconds: int
    publish_phase_seconds: float
    stop_seconds: float
    wedged_seconds: float
    metadata_endpoint: str
    log_level: str
    cloudwatch: bool
    cloudwatch_tiers: tuple[str, ...]
    prometheus: bool
    prometheus_listen: str
    prometheus_tiers: tuple[str, ...]
    json_lines: bool
    json_lines_tiers: tuple[str, ...]
    process_memory: bool
    job_mapping_directory: str
    job_labels: Literal["info", "label"]
    state_directory: str
    runtime_directory: str
    spool_megabytes: int
    kernel_log: str
    xid_table: str

    def aws_environment(self) -> dict[str, str]:
        """Return environment variables that make boto3 ask the same metadata service as gpumon does, in version 2 only.

        boto3 reads them when a session is made, so they must be set before the first one.
        """
        return {METADATA_VARIABLE: self.metadata_endpoint, "AWS_EC2_METADATA_V1_DISABLED": "true"}


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
        return "".join(f"{line:<{width}}  # {_quoted(origin)}\n" for line, origin in zip(lines, origins, strict=True))


def load_settings(environment: Mapping[str, str], path: Path | None = None) -> LoadedSettings:
    """Return the settings of this process.

    Args:
        environment: Environment variables of the process.
        path: A settings file, which must exist; None: the system's file, if there is one.

    Raises:
        SettingsError: A file cannot be read, a key is unknown, or a value has the wrong type or is out of range. The
            message names file, line and key, or the variable.
    """
    defaults = read_settings_file(DEFAULT_FILE)
    values: dict[str, Any] = {key: checked(key, value, "default.toml") for key, value in defaults.values.items()}
    origins = dict.fromkeys(values, "default")
    file = read_settings_file(path or SYSTEM_FILE, may_be_absent=path is None)
    for key, value in file.values.items():
        where = file.place(key)
        _require_known(key, value, file, values)
        values[key] = checked(key, value, where)
        origins[key] = where
    for key, value, variable in _from_environment(environment, values):
        values[key] = checked(key, value, variable)
        origins[key] = f"environment {variable}"
    if not values["metadata_endpoint"]:
        values["metadata_endpoint"] = DEFAULT_METADATA_ENDPOINT
    return LoadedSettings(Settings(**values), origins)


def _require_known(key: str, value: object, file: SettingsFile, known: Mapping[str, Any]) -> None:
    """Say what to write instead of a setting that does not exist, or of a section."""
    where = file.place(key)
    sections = value if isinstance(value, list) else [value]
    section = next((entry for entry in sections if isinstance(entry, dict)), None)
    if section is not None:
        flat = next((f"{key}_{inner}" for inner in section if f"{key}_{inner}" in known), "")
        advice = f"write {flat} = ... instead" if flat else "every setting is a plain key = value"
        raise SettingsError(f"Write {where} without the section [{_shortened(key)}]: {advice}.")
    if key not in known:
        raise _unknown(key, where, known)


def _unknown(key: str, where: str, known: Mapping[str, Any]) -> SettingsError:
    if key == "queue_periods":
        return SettingsError(
            f"Replace queue_periods in {where} by spool_megabytes: what cannot be sent is kept on disk now, and bounded"
            " by its size."
        )
    return SettingsError(
        f"Remove or correct the unknown setting {_shortened(key)!r} in {where}: the nearest one is"
        f" {nearest(key, known)!r}."
    )


def _from_environment(environment: Mapping[str, str], values: Mapping[str, Any]) -> list[tuple[str, object, str]]:
    """Return (key, value, variable) for everything that the environment sets."""
    found: list[tuple[str, object, str]] = []
    for key, variables in _FALLBACK_VARIABLES.items():
        variable = next((name for name in variables if environment.get(name)), None)
        if variable and not values[key] and not environment.get(ENVIRONMENT_PREFIX + key.upper()):
            text = environment[variable]
            found.append((key, text.split(":")[0] if variable in _DIRECTORY_LISTS else text, variable))
    for variable in sorted(environment):
        if variable.startswith(ENVIRONMENT_PREFIX):
            key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            text = environment[variable]
            if not text and key in _FALLBACK_VARIABLES:
                continue  # empty: not set, as in the file
            if key not in values:
                raise _unknown(key, f"the environment ({_shortened(variable)})", values)
            found.append((key, parsed(values[key], text, variable), variable))
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{_quoted(value)}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)


def _quoted(text: str) -> str:
    """Return `text` with everything escaped that may not stand in a TOML string or comment."""
    return "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
