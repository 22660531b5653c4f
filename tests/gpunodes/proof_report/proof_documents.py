"""Documents of proofs for tests, as `proof.json` has them: passed, failed, large, old, hostile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import tomllib

from gpunodes.proof import check
from gpunodes.proof.promised_metrics import METRICS_FILE

Document = dict[str, Any]

BEGAN = datetime(2026, 11, 22, 10, 0, 12, tzinfo=UTC)
FIRST_MINUTE = datetime(2026, 11, 22, 10, 2, tzinfo=UTC)
INSTANCE = "i-0123456789abcdef0"
HOSTILE = "<script>alert('x')</script>\"&'{{ 7*7 }}\x00\x1b[31m]]>"
GIB = 2**30
GPU_BYTES = 15 * GIB
CONTEXT_BYTES = 0.36 * GIB
SHARES = (0.25, 0.5, 0.75)

_AGENT_UNITS = {"mem_used_percent": 41.5, "swap_used_percent": 0.0, "disk_used_percent": 63.0}
_EVIDENCE: dict[str, Document] = {
    "image_is_sealed": {
        "public": False,
        "encrypted": True,
        "imds_support": "v2.0",
        "snapshots": ["snap-0a1b2c3d4e5f60718"],
    },
    "boots_in_time": {
        "boot_seconds": 21.84,
        "budget_seconds": 60,
        "slowest": {"cloud-init.service": 6.2, "gpumon.service": 0.9},
    },
    "nothing_else_listens": {
        "listening": [
            {"protocol": "tcp", "address": "0.0.0.0", "port": 22, "program": "sshd", "allowed": True},
            {"protocol": "udp", "address": "127.0.0.1", "port": 323, "program": "chronyd", "allowed": True},
        ]
    },
    "clones_differ": {
        "first": {"machine_id": "7a0c…e1", "ssh_ed25519": "SHA256:Zt1…"},
        "second": {"machine_id": "19bf…07", "ssh_ed25519": "SHA256:0aQ…"},
    },
    "gpumon_comes_back": {
        "killed_at": "2026-11-22T10:05:01+00:00",
        "main_pids": [812, 1204],
        "back_after_seconds": 0.42,
    },
    "no_unit_failed": {"failed": [], "journal": "-- No entries --\nBoot 1 of 1"},
}


def uuid(index: int) -> str:
    return f"GPU-{index:08x}-1111-2222-3333-444455556666"


def gpu_dimensions(index: int) -> dict[str, str]:
    return {"InstanceId": INSTANCE, "GpuIndex": str(index), "GpuUuid": uuid(index)}


def minute(number: int) -> str:
    return (FIRST_MINUTE + timedelta(minutes=number)).isoformat()


def load(gpus: int, minutes: int) -> list[Document]:
    """Steps of a quarter each, ten seconds into a minute, freed when four fifths of the time are over."""
    every = max(minutes // 6, 1)
    return [
        {
            "gpu_index": index,
            "gpu_uuid": uuid(index),
            "steps": [
                {
                    "at": (FIRST_MINUTE + timedelta(minutes=every * (number + 1), seconds=4)).isoformat(),
                    "bytes": int(share * (GPU_BYTES - index * GIB / 2)),
                    "share": share,
                }
                for number, share in enumerate(SHARES)
            ],
            "freed_at": (FIRST_MINUTE + timedelta(minutes=every * 5, seconds=4)).isoformat(),
        }
        for index in range(gpus)
    ]


def memory_used(load_entry: Document, number: int) -> float:
    """Average of a minute, as the load makes it."""
    begin = FIRST_MINUTE + timedelta(minutes=number)
    total = 0.0
    for second in range(60):
        at = (begin + timedelta(seconds=second)).isoformat()
        held = [step["bytes"] for step in load_entry["steps"] if step["at"] <= at < load_entry["freed_at"]]
        total += CONTEXT_BYTES + (held[-1] if held else 0)
    return total / 60


def value(metric: str, index: int, number: int, minutes: int) -> float:
    """Something that looks like the metric; most never change."""
    wave = math.sin(number / 3 + index)
    busy = minutes // 6 <= number < 5 * (minutes // 6)
    shapes = {
        "GpuUtilization": (62 + 30 * wave if busy else 0) + index,
        "MemoryBandwidthUtilization": 20 + 12 * wave if busy else 0,
        "Temperature": 38 + index + (14 * (1 - math.exp(-number / 8)) if busy else 3 * math.exp(-number / 9)),
        "PowerDraw": 27 + 3 * index + (38 + 9 * wave if busy else 0),
        "EnergyConsumed": 1600 + (2300 + 500 * wave if busy else 0),
        "SmClock": 1590 if busy else 300 + 15 * (number % 2),
        "MemoryFree": GPU_BYTES * (0.3 if busy else 0.97),
        "MemoryUtilization": 75 if busy else 2.4,
        "ProcessCount": 1 if busy else 0,
        "PcieTx": 2.1e6 * (1.2 + wave),
        "CollectDuration": 0.0041 + 0.0009 * wave,
        "MemoryTotal": GPU_BYTES,
        "PowerLimit": 70,
        "MaxSmClock": 1590,
        "GpuUp": 1,
    }
    return round(shapes.get(metric, 0.0), 4)


def series(gpus: int, metrics: int, minutes: int, loads: list[Document]) -> Iterator[Document]:
    described = tomllib.loads(METRICS_FILE.read_text())
    names = [name for name, entry in described.items() if entry["scope"] == "gpu" and entry["tier"] != "legacy"]
    for metric in names[:metrics]:
        for index in range(gpus):
            unit = described[metric]["unit"]
            values = [
                memory_used(loads[index], number) if metric == "MemoryUsed" else value(metric, index, number, minutes)
                for number in range(minutes)
            ]
            yield {
                "namespace": "GPU",
                "metric": metric,
                "unit": unit,
                "dimensions": gpu_dimensions(index),
                "statistic": "Average",
                "points": [[minute(number), entry] for number, entry in enumerate(values)],
                "local": [[minute(number), entry * 1.001] for number, entry in enumerate(values)]
                if metric in {"MemoryUsed", "Temperature", "PowerDraw"}
                else [],
            }
    for metric, level in _AGENT_UNITS.items():
        yield {
            "namespace": "CWAgent",
            "metric": metric,
            "unit": "Percent",
            "dimensions": {"InstanceId": INSTANCE} | ({"path": "/"} if metric.startswith("disk") else {}),
            "statistic": "Average",
            "points": [[minute(number), level + (number % 3 if level else 0)] for number in range(minutes)],
            "local": [],
        }


def checks() -> list[Document]:
    return [
        {
            "check_id": check_id,
            **row,
            "passed": True,
            "reason": "it is as it should be, seen 3 times",
            "evidence": _EVIDENCE.get(check_id, {"seen": 3, "wanted": 3}),
        }
        for check_id, row in check.table().items()
    ]


def passed(gpus: int = 1, metrics: int = 24, minutes: int = 14) -> Document:
    """A proof that passed, with the load and datapoints of every minute."""
    loads = load(gpus, minutes)
    return {
        "schema": "gpunodes-proof/1",
        "result": "passed",
        "reason": f"All {len(check.table())} checks passed: every metric of every GPU was read back from CloudWatch.",
        "ami_id": "ami-0123456789abcdef0",
        "ami_name": "gpunodes-debian-12-20261122-100000",
        "run_id": "proof-20261122-100012-4f2a",
        "target": "aws",
        "region": "eu-central-1",
        "availability_zone": "eu-central-1b",
        "instance_id": INSTANCE,
        "instance_type": {1: "g4dn.xlarge", 4: "g5.12xlarge", 8: "p4d.24xlarge"}.get(gpus, "g4dn.metal"),
        "began_at": BEGAN.isoformat(),
        "proved_at": (FIRST_MINUTE + timedelta(minutes=minutes + 1, seconds=9)).isoformat(),
        "checks": checks(),
        "series": list(series(gpus, metrics, minutes, loads)),
        "load": loads,
        "timings": [
            {"name": "look at the image", "seconds": 1.2, "phases": []},
            {
                "name": "launch with Terraform",
                "seconds": 48.5,
                "phases": [
                    {"name": "init", "seconds": 4.1, "phases": []},
                    {
                        "name": "apply",
                        "seconds": 44.4,
                        "phases": [{"name": "wait for SSH", "seconds": 31.0, "phases": []}],
                    },
                ],
            },
            {"name": "wait for datapoints", "seconds": 412.9, "phases": []},
            {"name": "destroy", "seconds": 37.4, "phases": []},
        ],
        "cost": {"usd": 0.14, "hourly_usd": 0.658, "note": "on demand, from AWS's price list"},
        "destroyed": {"verified": True, "asked": ["instances", "volumes", "security groups", "roles"], "left": []},
        "kept": {},
    }


def fail(document: Document, check_id: str, reason: str, evidence: Document) -> None:
    document["result"] = "failed"
    for entry in document["checks"]:
        if entry["check_id"] == check_id:
            entry |= {"passed": False, "reason": reason, "evidence": evidence}
    failures = [entry["name"] for entry in document["checks"] if entry["passed"] is False]
    document["reason"] = f"{len(failures)} of {len(document['checks'])} checks failed: {'; '.join(failures)}."


def failed(gpus: int = 4, metrics: int = 24, minutes: int = 14) -> Document:
    """A proof that failed: the wrong memory was published, GPU 2 stopped, a volume is left, one check has no answer."""
    document = passed(gpus, metrics, minutes)
    rows = [
        {"gpu": f"GPU {index}", "allocated_bytes": 4 * GIB, "rise_bytes": rise, "fits": rise > GIB}
        for index, rise in enumerate([4 * GIB, 23 * 2**20, 4 * GIB, 4 * GIB][:gpus])
    ]
    fail(
        document,
        "memory_rises",
        "GPU 1 rose by 0.02 GiB instead of 4.00 GiB at 25 %",
        {"tolerance": 0.01, "gpus": rows},
    )
    fail(
        document,
        "datapoints_are_fresh",
        "GPU 2 has no datapoint after 10:09 UTC, which is 7 minutes ago",
        {"newest": {"GPU 1": minute(13), "GPU 2": minute(7)}, "missing_minutes": [minute(n) for n in range(8, 14)]},
    )
    for entry in document["series"]:
        if entry["dimensions"].get("GpuIndex") == "1" and entry["metric"] == "MemoryUsed":
            entry["points"] = [[at, CONTEXT_BYTES] for at, _ in entry["points"]]
        if entry["dimensions"].get("GpuIndex") == "2":
            entry["points"] = [*entry["points"][:4], *entry["points"][6:8]]
        if entry["dimensions"].get("GpuIndex") == "3" and entry["metric"] == "PowerDraw":
            entry["points"], entry["local"] = [], []
        if entry["metric"] == "ProcessCount":
            entry["points"] = []
    for entry in document["checks"]:
        if entry["check_id"] == "gap_is_filled":
            entry |= {
                "passed": None,
                "reason": "the offline cloud has no role policies, so nothing can be denied",
                "evidence": {},
            }
    document["target"] = "offline"
    document["cost"] = {"usd": None, "hourly_usd": None, "note": "an offline cloud costs nothing"}
    document["destroyed"] = {"verified": False, "asked": ["instances", "volumes"], "left": ["vol-0aa11bb22cc33dd44"]}
    return document


def quick(gpus: int = 1) -> Document:
    """The load within seconds, as a test has it that reads each step back before it takes the next."""
    document = passed(gpus)
    seconds = ("10:04:10", "10:04:15", "10:04:23")
    rows = []
    for entry in document["load"]:
        for step, clock in zip(entry["steps"], seconds, strict=True):
            step["at"] = f"2026-11-22T{clock}+00:00"
            rows.append({"gpu": str(entry["gpu_index"]), "at": step["at"], "rise_bytes": step["bytes"] * 1.0})
        entry["freed_at"] = "2026-11-22T10:04:29+00:00"
    next(entry for entry in document["checks"] if entry["check_id"] == "memory_rises")["evidence"] = {"steps": rows}
    return document


def bare() -> Document:
    """What the oldest document has."""
    return {
        "result": "failed",
        "checks": [
            {"check_id": "gpus_are_there", "name": "every GPU is there", "passed": True, "reason": "1 of 1"},
            {"check_id": "memory_rises", "name": "memory used rises", "passed": False, "reason": "it did not"},
            {"check_id": "other", "name": "something else", "passed": None, "reason": "no answer"},
        ],
    }


def hostile(text: str = HOSTILE) -> Document:
    """The text wherever one can be."""
    document = passed(1, 3, 4)
    fields = ("reason", "ami_id", "ami_name", "run_id", "region", "availability_zone", "instance_id", "instance_type")
    document |= dict.fromkeys((*fields, "began_at", "proved_at", "target"), text)
    document["result"] = "failed"
    for entry in document["checks"]:
        entry.update(dict.fromkeys(("group", "name", "proves", "reason"), text))
        entry |= {
            "passed": False,
            "evidence": {text: text, "rows": [{text: text}], "list": [text, text * 5], "deep": {"er": [[text]]}},
        }
    for entry in document["series"]:
        entry |= {"metric": text, "namespace": text, "unit": text, "dimensions": {text: text, "GpuIndex": text}}
    for entry in document["load"]:
        entry |= {"gpu_uuid": text}
    document["timings"] = [{"name": text, "seconds": 1.0, "phases": [{"name": text, "seconds": 1.0, "phases": []}]}]
    document["cost"]["note"] = text
    document["destroyed"] = {"verified": False, "asked": [text], "left": [text]}
    document["kept"] = {text: text}
    return document


def everything() -> dict[str, Document]:
    """Every kind of document, by name."""
    return {
        "passed": passed(),
        "failed": failed(),
        "large": failed(8, 60, 30),
        "quick": quick(2),
        "bare": bare(),
        "empty": {},
        "hostile": hostile(),
    }
