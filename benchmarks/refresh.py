"""What a refresh with nothing to do takes: `python -m benchmarks.refresh [--images N]`.

The offline cloud's API without machines, with a channel that names an image of the present recipe. A refresh is begun
in a process of its own, as a scheduler begins it, and reads nothing that another one left but the wheelhouse. API calls
must not grow with the images that the channel has had.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.prune import served, target_of
from gpunodes.aws import Clients
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.operation import runs
from gpunodes.operation.progress import TerminalProgress
from gpunodes.plan.plan import TAG_CHANNEL, TAG_RECIPE, BakePlan, plan
from gpunodes.recipe import ami
from gpunodes.refresh.refresh_run import refresh_channel
from gpunodes.refresh.situation import TAG_FINGERPRINT
from gpunodes.settings import Settings
from gpunodes.target import Target

IMAGES = 100
MOST_SECONDS = 5.0
_URL, _FOLDER = "BENCHMARK_ENDPOINT_URL", "BENCHMARK_WORK_FOLDER"
_BASE = {  # as the offline cloud has it
    "ami_id": "ami-0123456789abcdef0",
    "name": "debian-12-gpu-offline",
    "owner_id": "136693071363",
    "architecture": "x86_64",
    "virtualization_type": "hvm",
    "root_device_name": "/dev/xvda",
    "root_device_type": "ebs",
    "public": True,
    "state": "available",
}


def main() -> int:
    """Measure and print; exit code 0 whatever the figures are."""
    if os.environ.get(_URL):
        return _refresh_once(os.environ[_URL])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, help=f"how many images the channel has ({IMAGES})")
    images = parser.parse_args().images
    calls: Counter[str] = Counter()
    rows = []
    with tempfile.TemporaryDirectory() as folder, served(calls, [_BASE]) as url:
        os.environ.update({_URL: url, _FOLDER: folder})
        planned = plan(_target(url), _settings(folder), print)
        for count in (1, images):
            _fill(url, planned, count)
            calls.clear()
            rows.append({"images": count, **_in_a_process(), "calls": sum(calls.values()), "by": dict(calls)})
    _print(rows)
    return 0


def _refresh_once(url: str) -> int:
    target = _target(url)
    done = refresh_channel(target, _settings(os.environ[_FOLDER]), TerminalProgress())
    print(json.dumps({"decision": done.decision, "reason": done.reason}))
    return 0


def _in_a_process() -> dict[str, Any]:
    begin, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "benchmarks.refresh"], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    total = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_seconds = total.ru_utime + total.ru_stime - used.ru_utime - used.ru_stime
    return {**found, "seconds": time.monotonic() - begin, "processor_seconds": processor_seconds}


def _settings(folder: str) -> Settings:
    return Settings(work_folder=Path(folder))


def _target(url: str) -> Target:
    return replace(target_of(url), source_ami=str(_BASE["ami_id"]))


def _fill(url: str, planned: BakePlan, count: int) -> None:
    """So many images of the channel, of which it names the youngest."""
    clients = Clients(target_of(url))
    tags = {
        runs.TAG_STATE: ami.STATE_PROVEN,
        TAG_CHANNEL: planned.channel,
        TAG_RECIPE: planned.recipe.summary,
        TAG_FINGERPRINT: planned.fingerprint,
    }
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    for _ in range(count):
        made = clients.ec2.register_image(Name=str(uuid.uuid4()), RootDeviceName="/dev/xvda")["ImageId"]
        clients.ec2.create_tags(Resources=[made], Tags=pairs)
    ChannelParameter(clients, planned.channel).write(made)


def _print(rows: list[dict[str, Any]]) -> None:
    print(f"{'images':>8}{'API calls':>12}{'seconds':>10}{'of processor':>14}  calls by service")
    for row in rows:
        by = ", ".join(f"{name} {count}" for name, count in sorted(row["by"].items()))
        figures = f"{row['images']:>8}{row['calls']:>12}{row['seconds']:>10.1f}{row['processor_seconds']:>14.1f}"
        print(f"{figures}  {by}")
    print(f"\n{rows[-1]['decision']}: {rows[-1]['reason']}")
    slowest = max(row["seconds"] for row in rows)
    print(f"a refresh with nothing to do <= {MOST_SECONDS:g} s: {'met' if slowest <= MOST_SECONDS else 'NOT MET'}")


if __name__ == "__main__":
    sys.exit(main())
