"""The page of an image: one HTML file that needs nothing else, made from the image's record."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from gpunodes.evidence import evidence
from gpunodes.evidence.evidence import Proof
from gpunodes.evidence.image_record import ImageRecord
from gpunodes.evidence.sbom import Package

_FOLDER = Path(__file__).parent
_TEMPLATE = "image_page.html.j2"
# In the order in which people ask; other versions follow.
VERSION_TITLES = {
    "os_id": "system",
    "os_version": "system version",
    "kernel_default": "kernel",
    "nvidia_driver_version": "NVIDIA driver",
    "cuda_version": "CUDA toolkit",
    "cuda_driver_version": "CUDA of driver",
    "dcgm_version": "DCGM",
    "cloudwatch_agent_version": "CloudWatch agent",
    "gpumon_version": "gpumon",
    "python_version": "Python of gpumon",
    "architecture": "architecture",
    "kernel_running": "kernel at bake",
}
_HEADLINES = (
    "nvidia_driver_version",
    "cuda_version",
    "kernel_default",
    "gpumon_version",
    "cloudwatch_agent_version",
)
_MANAGERS = {"deb": "Debian packages", "rpm": "RPM packages", "pypi": "Python packages"}


def render(record: ImageRecord, proofs: Sequence[Proof], packages: Sequence[Package] | None) -> str:
    """The page's HTML.

    Args:
        record: of the image.
        proofs: the oldest first.
        packages: in the image; None where the list cannot be read.
    """
    groups = {
        title: [package for package in packages or () if package.manager == manager]
        for manager, title in _MANAGERS.items()
    }
    longest = max((step.seconds for step in record.durations.steps), default=0.0)
    return _template().render(
        record=record,
        standing=evidence.standing(proofs),
        proofs=list(reversed(proofs)),
        headlines=[(VERSION_TITLES[key], record.versions[key]) for key in _HEADLINES if record.versions.get(key)],
        versions=titled_versions(record.versions),
        packages=packages,
        groups={title: group for title, group in groups.items() if group},
        longest=longest,
        digest=evidence.seal_digest(record)[1],
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,  # names of packages and images come from elsewhere
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": moment, "words": lambda name: name.replace("_", " "), "prose": _prose}
    return environment.get_template(_TEMPLATE)


def titled_versions(versions: Mapping[str, str | None]) -> list[tuple[str, str | None]]:
    """Versions with the names that people use, in the order in which they ask."""
    whole = dict(versions)
    if whole.get("os_id") and "os_version" in whole:
        whole["os_id"] = f"{whole['os_id']} {whole.pop('os_version') or ''}".strip()
    known = [(title, whole[key]) for key, title in VERSION_TITLES.items() if key in whole]
    return known + [(key, value) for key, value in sorted(whole.items()) if key not in VERSION_TITLES]


def moment(iso: str) -> str:
    """A time for people, as `22 November 2026, 04:32 UTC`; what is no time stays as it is."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    zone = moment.tzname() or ""
    return f"{moment.day} {moment:%B %Y, %H:%M} {zone}".strip()


def _prose(text: str) -> Markup:
    """A sentence whose `commands` are shown as such; everything in it is escaped."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner is a backtick
        return escape(text)
    return Markup().join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )
