"""What planning a prune takes in a large account: `python -m benchmarks.prune [--images N]`.

The offline cloud's API without machines, filled with images, launch template versions and instances; then a plan is
made twice, of half the images and of all. API calls must grow with pages and not with images, and the memory of the
process that plans must stay small: it is read from the kernel (VmHWM), in a process of its own. The seconds are
moto's, which makes an answer of a thousand images anew for each page.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes.aws import Clients
from gpunodes.prune import account, prune_plan
from gpunodes.target import Target
from localaws import api

IMAGES, TEMPLATES, VERSIONS_EACH, INSTANCES = 2_000, 50, 100, 3_000
MOST_MIB = 256.0
_URL = "BENCHMARK_ENDPOINT_URL"


def main() -> int:
    """Measure and print; exit code 0 whatever the figures are."""
    if os.environ.get(_URL):
        return _plan_once(os.environ[_URL])
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in (("images", IMAGES), ("instances", INSTANCES), ("templates", TEMPLATES)):
        parser.add_argument(f"--{name}", type=int, default=usual, help=f"how many {name} there are ({usual})")
    asked = parser.parse_args()
    rows = measure(asked.images, asked.instances, asked.templates)
    _print(rows, asked.instances, asked.templates)
    return 0


def measure(images: int, instances: int, templates: int) -> list[dict[str, Any]]:
    """What a plan takes of half the images, and of all.

    Args:
        images: how many there are of ours.
        instances: each with a reservation of its own.
        templates: with `VERSIONS_EACH` versions each.
    """
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    calls: Counter[str] = Counter()
    with served(calls) as url:
        clients = Clients(target_of(url))
        _fill_compute(clients, instances, templates)
        rows = []
        for count in (images // 2, images):
            _fill_images(clients, count)
            calls.clear()
            rows.append(
                {"images": count, **_planned_in_a_process(url), "calls": sum(calls.values()), "by": dict(calls)}
            )
    return rows


def _plan_once(url: str) -> int:
    begin = time.monotonic()
    looked = account.look(Clients(target_of(url)), datetime.now(UTC))
    entries = prune_plan.plan(looked)
    found = {
        "entries": len(entries),
        "actions": Counter(entry.action for entry in entries),
        "failed": dict(looked.references.failed),
        "seconds": time.monotonic() - begin,
        "mib": _peak_mib(),
    }
    print(json.dumps(found))
    return 0


def _peak_mib() -> float:
    """Of this process alone: what getrusage says includes the process that started this one, with all of moto in it."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _planned_in_a_process(url: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.prune"]
    done = subprocess.run(command, env={**os.environ, _URL: url}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def served(calls: Counter[str], images: Sequence[Mapping[str, Any]] = ()) -> Iterator[str]:
    """The offline cloud's API on a free port, with these images; each call is counted by its service."""
    with tempfile.TemporaryDirectory() as folder:
        amis = Path(folder, "amis.json")
        amis.write_text(json.dumps(list(images)))
        observed = api.ObservedApi(api.load_moto(amis))
        yield from _answered(observed, calls)


def _answered(observed: api.ObservedApi, calls: Counter[str]) -> Iterator[str]:

    def counting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        service = environ.get("HTTP_AUTHORIZATION", "//// ").split("/")[3:4]
        calls["".join(service) or "other"] += 1
        if service == ["pricing"]:  # moto has none, and would tell so in a screen of text
            start_response("404 Not Found", [])
            return [b""]
        return observed(environ, start_response)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = api.serve(counting, listener)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def target_of(url: str) -> Target:
    """That API as a target."""
    credentials = {"aws_access_key_id": "benchmark", "aws_secret_access_key": "benchmark"}
    return Target(
        name="offline",
        region="us-east-1",
        flavor="debian-12",
        endpoint_url=url,
        credentials=credentials,
        tolerates_missing_calls=True,
    )


def _fill_compute(clients: Clients, instances: int, templates: int) -> None:
    image = clients.ec2.register_image(Name="used", RootDeviceName="/dev/xvda")["ImageId"]
    for _ in range(instances):  # each with a reservation of its own, by which EC2 and moto count a page
        clients.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    for number in range(templates):
        data = {"ImageId": image, "InstanceType": "t3.small"}
        made = clients.ec2.create_launch_template(LaunchTemplateName=f"template-{number}", LaunchTemplateData=data)
        template_id = made["LaunchTemplate"]["LaunchTemplateId"]
        for _ in range(VERSIONS_EACH - 1):
            clients.ec2.create_launch_template_version(LaunchTemplateId=template_id, LaunchTemplateData=data)


def _fill_images(clients: Clients, count: int) -> None:
    tags = [{"Key": "gpunodes:channel", "Value": "stable"}, {"Key": "gpunodes:state", "Value": "failed"}]
    there = len(
        clients.ec2.describe_images(Owners=["self"], Filters=[{"Name": "tag-key", "Values": ["gpunodes:channel"]}])[
            "Images"
        ]
    )
    for number in range(there, count):
        made = clients.ec2.register_image(Name=f"image-{number}", RootDeviceName="/dev/xvda")
        clients.ec2.create_tags(Resources=[made["ImageId"]], Tags=tags)


def _print(rows: list[dict[str, Any]], instances: int, templates: int) -> None:
    print(f"{instances} instances, {templates} launch templates with {VERSIONS_EACH} versions each")
    print(f"\n{'images':>8}{'API calls':>12}{'seconds':>10}{'MiB':>8}  calls by service")
    for row in rows:
        by = ", ".join(f"{name} {count}" for name, count in sorted(row["by"].items()))
        print(f"{row['images']:>8}{row['calls']:>12}{row['seconds']:>10.1f}{row['mib']:>8.0f}  {by}")
    more, less = rows[-1], rows[0]
    grown = more["calls"] - less["calls"]
    print(f"\ncalls for {more['images'] - less['images']} more images: {grown}")
    print(f"memory <= {MOST_MIB:g} MiB: {'met' if more['mib'] <= MOST_MIB else 'NOT MET'}")


if __name__ == "__main__":
    sys.exit(main())
