"""What each setting may be: its type (that of its default in ``default.toml``), its range, its choices."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, cast

from gpumon.addresses import parse_listen
from gpumon.errors import SettingsError
from gpumon.metrics import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOG_LEVELS = ("debug", "info", "warning", "error")
JOB_LABELS = ("info", "label")

_NUMBERS: dict[str, tuple[type[int | float], float, float]] = {
    "sample_seconds": (float, 0.1, 60),
    "slow_seconds": (float, 1, 3600),
    "publish_seconds": (int, 1, 3600),
    "publish_phase_seconds": (float, 0, 60),
    "stop_seconds": (float, 0, 60),
    "wedged_seconds": (float, 5, 600),
    "spool_megabytes": (int, 1, 1024),
}
_FLAGS = frozenset({"cloudwatch", "prometheus", "json_lines", "process_memory"})
# The legacy names repeat other metrics, for dashboards in CloudWatch.
_TIERS = {
    "cloudwatch_tiers": TIERS,
    "prometheus_tiers": tuple(tier for tier in TIERS if tier != "legacy"),
    "json_lines_tiers": tuple(tier for tier in TIERS if tier != "legacy"),
}
_CHOICES = {"log_level": LOG_LEVELS, "job_labels": JOB_LABELS}
_PATHS = frozenset({"job_mapping_directory", "state_directory", "runtime_directory", "kernel_log", "xid_table"})
_PATTERNS = {
    # CloudWatch, PutMetricData, Namespace.
    "namespace": (re.compile(r"[0-9A-Za-z._\-/#]{1,255}"), "1 to 255 letters, digits and ._-/#"),
    "region": (re.compile(r"[0-9A-Za-z-]{0,63}"), "the name of a Region, such as eu-west-1"),
    "metadata_endpoint": (
        re.compile(r"(https?://[!-~]{1,500})?", re.ASCII),
        "a URL that begins with http:// or https://",
    ),
}
_HUGE = 10**15


def nearest(key: str, known: Iterable[str]) -> str:
    """Return the setting whose name is most like `key`."""
    return difflib.get_close_matches(key[:60], list(known), n=1, cutoff=0.0)[0]


def parsed(default: object, text: str, variable: str) -> object:
    """Turn the text of an environment variable into the type of its setting's default.

    Raises:
        SettingsError: It is no such value.
    """
    if isinstance(default, bool):
        if text not in {"true", "false"}:
            raise SettingsError(f"Set {variable} to true or false: it is {_shown(text)}.")
        return text == "true"
    if isinstance(default, tuple):
        return [item.strip() for item in text.split(",") if item.strip()]
    if isinstance(default, (int, float)):
        kind = type(default)
        try:
            return kind(text)
        except ValueError as error:
            raise SettingsError(
                f"Set {variable} to a value of type {kind.__name__}: {_shown(text)} is none."
            ) from error
    return text


def checked(key: str, value: object, where: str) -> object:
    """Return `value` in the type of the setting `key`.

    Args:
        key: A setting that exists.
        value: What was given for it.
        where: Words for where it was given.

    Raises:
        SettingsError: It has the wrong type, or is not one of the values that the setting may have.
    """
    if key in _NUMBERS:
        return _number(key, value, where)
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise _wrong_type(key, "true or false", value, where)
        return value
    if key in _TIERS:
        return _tiers(key, value, where)
    return _text(key, value, where)


def _number(key: str, value: object, where: str) -> float:
    kind, least, greatest = _NUMBERS[key]
    allowed: tuple[type, ...] = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise _wrong_type(key, f"a value of type {kind.__name__}", value, where)
    number = cast("float", value)
    if not least <= number <= greatest:  # nor is nan
        raise SettingsError(f"Set {key} in {where} between {least:g} and {greatest:g}: it is {_shown(number)}.")
    return kind(number)


def _tiers(key: str, value: object, where: str) -> tuple[str, ...]:
    allowed: Sequence[str] = _TIERS[key]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong_type(key, "a list of texts", value, where)
    wrong = next((item for item in value if item not in allowed), None)
    if wrong is not None:
        raise SettingsError(f"Choose {key} in {where} from {', '.join(allowed)}: {_shown(wrong)} is none of them.")
    if not value:
        sink = key.removesuffix("_tiers")
        raise SettingsError(f"Name at least one tier for {key} in {where}, or switch the sink off with {sink} = false.")
    return tuple(dict.fromkeys(value))


def _text(key: str, value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(key, "a text (type str)", value, where)
    if not value.isprintable():
        raise SettingsError(f"Remove what cannot be printed from {key} in {where}: it is {_shown(value)}.")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise SettingsError(f"Set {key} in {where} to one of {', '.join(_CHOICES[key])}: it is {_shown(value)}.")
    if key in _PATHS and value and not value.startswith("/"):
        raise SettingsError(f"Set {key} in {where} to a path that begins with /: it is {_shown(value)}.")
    if key in _PATTERNS:
        pattern, words = _PATTERNS[key]
        if not pattern.fullmatch(value):
            raise SettingsError(f"Set {key} in {where} to {words}: it is {_shown(value)}.")
    if key == "namespace" and value.startswith("AWS/"):
        raise SettingsError(f"Set namespace in {where} to one of your own: CloudWatch refuses {_shown(value)}.")
    if key == "prometheus_listen":
        parse_listen(value, where)
    return value


def _wrong_type(key: str, wanted: str, value: object, where: str) -> SettingsError:
    return SettingsError(f"Give {key} in {where} {wanted}: {_shown(value)} is of type {type(value).__name__}.")


def _shown(value: object) -> str:
    """Return `value` for a message: on one line, and short."""
    if isinstance(value, int) and abs(value) > _HUGE:
        return "huge"  # Python refuses to write integers of thousands of digits
    try:
        shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except (ValueError, RecursionError):
        return "something that cannot be shown"
    return shown if len(shown) <= 80 else f"{shown[:80]}..."
