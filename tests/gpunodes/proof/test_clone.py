from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpunodes.proof import clone
from gpunodes.proof.clone import Clone, Origin
from gpunodes.settings import Settings
from tests.gpunodes.fakes import executable

BUILDER = "i-0bbbbbbbbbbbbbbbb"
BAKED = Origin(BUILDER, datetime(2026, 1, 1, 11, 0, tzinfo=UTC), "2026-01-01T12:30:00.000Z")
UNKNOWN = Origin(imaged_at="2026-01-01T12:30:00.000Z")
LAUNCHED_WITH = "ssh-ed25519 AAAAlaunched me"
_CURL = f"""case "$*" in
  *api/token) echo token ;;
  *openssh-key) echo "{LAUNCHED_WITH}" ;;
  *instance-id) echo i-0cccccccccccccccc ;;
  *) exit 22 ;;
esac"""


@dataclass(frozen=True)
class Disk:
    """A clone that is a folder: commands run here, as its user who may sudo, and the script looks below `root`."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def put(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def run(self, command: str) -> str:
        environment = {
            "PATH": f"{self.folder / 'programs'}{os.pathsep}{os.environ['PATH']}",
            "ROOT_DIR": str(self.root),
            "TMPDIR": str(self.folder / "tmp"),
        }
        return subprocess.run(
            ["bash", "-c", command], env=environment, check=True, capture_output=True, text=True
        ).stdout

    def write(self, path: str, content: str) -> None:
        Path(path).write_text(content)

    @property
    def uploaded(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "tmp").rglob("*"))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    clean = Disk(tmp_path)
    executable(tmp_path / "programs", "sudo", 'exec "$@"')
    executable(tmp_path / "programs", "curl", _CURL)
    executable(tmp_path / "programs", "hostname", "echo ip-198-51-100-6")
    (tmp_path / "tmp").mkdir()
    for folder in ("var/lib", "var/log", "home", "opt"):
        (clean.root / folder).mkdir(parents=True)
    clean.put("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    clean.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    clean.put("etc/ssh/ssh_host_ed25519_key", "private")
    clean.put("etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAAhost root@clone\n")
    clean.put("root/.ssh/authorized_keys", f"{LAUNCHED_WITH}\n")
    return clean


def image(**tags: str) -> dict[str, Any]:
    return {
        "ImageId": "ami-1",
        "CreationDate": "2026-01-01T12:30:00.000Z",
        "Tags": [{"Key": f"gpunodes:{key}".replace("_", "-"), "Value": value} for key, value in tags.items()],
    }


def keep_facts(folder: Path, text: str) -> Settings:
    facts = folder / "runs" / "20260101-120000-abcd" / "facts"
    facts.mkdir(parents=True)
    (facts / "facts.json").write_text(text)
    return Settings(work_folder=folder)


def test_clean_clone_says_who_it_is_and_complains_of_nothing(disk: Disk) -> None:
    found = clone.look_at(disk, BAKED)

    assert found.complaints == ()
    assert found.identity == {
        "instance_id": "i-0cccccccccccccccc",
        "hostname": "ip-198-51-100-6",
        "machine_id": "0123456789abcdef0123456789abcdef",
        "ssh_host_keys": [hashlib.sha256(b"ssh-ed25519 AAAAhost").hexdigest()],
        "iscsi_initiator": None,
        "nvme_hostnqn": None,
        "nvme_hostid": None,
    }


def test_nothing_stays_on_the_clone(disk: Disk) -> None:
    clone.look_at(disk, BAKED)

    assert disk.uploaded == []


def test_every_complaint_comes_back_without_the_name_of_the_program(disk: Disk) -> None:
    disk.put("var/log/cloud-init.log", f"instance {BUILDER}")
    disk.put("etc/machine-id", "")
    disk.put("root/.ssh/authorized_keys", "ssh-ed25519 AAAAstranger them\n")

    found = clone.look_at(disk, BAKED)

    assert found.identity["machine_id"] is None
    named, machine_id, key = found.complaints
    assert named.startswith(f"These files name {BUILDER}, which baked the image")
    assert named.endswith("/var/log/cloud-init.log")
    assert machine_id.startswith("/etc/machine-id is not one")
    assert key.startswith("/root/.ssh/authorized_keys holds a key that this instance was not launched with")


def test_host_key_older_than_the_image_is_a_complaint(disk: Disk) -> None:
    key = disk.root / "etc/ssh/ssh_host_ed25519_key"
    just_before = datetime(2026, 1, 1, 12, 29, tzinfo=UTC).timestamp()
    os.utime(key, (just_before, just_before))

    assert clone.look_at(disk, BAKED).complaints == (
        "/etc/ssh/ssh_host_ed25519_key is as old as the image; extend cleanup.sh.",
    )


def test_without_the_builder_the_rest_is_looked_at_all_the_same(disk: Disk) -> None:
    disk.put("var/log/cloud-init.log", f"instance {BUILDER}")
    assert clone.look_at(disk, UNKNOWN).complaints == ()

    disk.put("etc/machine-id", "")
    assert len(clone.look_at(disk, UNKNOWN).complaints) == 1


def test_image_of_which_nothing_is_known_is_looked_at_by_its_own_files(disk: Disk) -> None:
    unit = disk.put("etc/systemd/system/gpumon.service", "unit")
    os.utime(unit, (0, 0))

    assert clone.look_at(disk, Origin()).complaints == ()


def test_script_that_dies_is_a_complaint_with_its_last_words(disk: Disk) -> None:
    (complaint,) = clone.look_at(disk, Origin()).complaints  # no time of the bake, and no gpumon either

    assert complaint.startswith("verify-clone.sh could not finish: touch: ")
    assert "gpumon.service" in complaint


def test_script_that_dies_without_a_word_is_a_complaint(disk: Disk) -> None:
    executable(disk.folder / "programs", "timeout", "exit 1")

    found = clone.look_at(disk, BAKED)

    assert found == Clone({}, ("verify-clone.sh could not finish: it printed nothing",))


def test_disk_that_takes_too_long_to_read_is_a_complaint(disk: Disk) -> None:
    executable(disk.folder / "programs", "timeout", "exit 124")

    assert clone.look_at(disk, BAKED).complaints == ("verify-clone.sh did not finish within 100 s.",)


def test_what_else_is_printed_is_no_complaint(disk: Disk) -> None:
    executable(disk.folder / "programs", "sudo", 'echo "sudo: unable to resolve host clone" >&2\nexec "$@"')

    found = clone.look_at(disk, BAKED)

    assert found.complaints == ()
    assert found.identity["hostname"] == "ip-198-51-100-6"


def test_origin_is_what_the_tags_of_the_image_say(tmp_path: Path) -> None:
    tagged = image(bake_instance=BUILDER, run_id="20260101-120000-abcd")

    assert clone.origin_of(Settings(work_folder=tmp_path), tagged) == BAKED


def test_image_without_the_tag_has_the_instance_that_its_run_kept(tmp_path: Path) -> None:
    options = keep_facts(tmp_path, json.dumps({"instance_id": BUILDER}))

    assert clone.origin_of(options, image(run_id="20260101-120000-abcd")) == BAKED
    unknown = image(run_id="20260101-120000-abcd", bake_instance="unknown")
    assert clone.origin_of(options, unknown) == BAKED


@pytest.mark.parametrize("facts", ["{}", '{"instance_id": null}', '{"instance_id": 7}', "no JSON"])
def test_facts_that_do_not_name_the_instance_leave_it_unknown(tmp_path: Path, facts: str) -> None:
    options = keep_facts(tmp_path, facts)

    assert clone.origin_of(options, image(run_id="20260101-120000-abcd")).instance_id == ""


def test_image_of_somebody_else_has_an_origin_of_unknowns(tmp_path: Path) -> None:
    options = Settings(work_folder=tmp_path)

    assert clone.origin_of(options, {"ImageId": "ami-1"}) == Origin()
    assert clone.origin_of(options, image()) == UNKNOWN


@pytest.mark.parametrize("value", ["unknown", "", "i-", "*", "i-0123456789abcdef0; reboot", "i-0BBBBBBBBBBBBBBBB"])
def test_tag_that_is_no_instance_id_is_none(tmp_path: Path, value: str) -> None:
    assert clone.origin_of(Settings(work_folder=tmp_path), image(bake_instance=value)).instance_id == ""


def test_run_id_that_is_none_leads_nowhere(tmp_path: Path) -> None:
    options = keep_facts(tmp_path / "elsewhere", json.dumps({"instance_id": BUILDER}))
    (tmp_path / "runs").mkdir()
    there = image(run_id="../elsewhere/runs/20260101-120000-abcd")

    assert clone.origin_of(options, there).begun_at is None
    assert clone.origin_of(Settings(work_folder=tmp_path), there).instance_id == ""


def test_only_what_changed_since_the_run_began_is_read() -> None:
    assert BAKED.facts() == {"booted_at": "2026-01-01T11:00:00Z", "collected_at": "2026-01-01T12:30:00.000Z"}


def test_nothing_older_than_the_image_is_read_where_there_is_nothing_to_look_for() -> None:
    assert UNKNOWN.facts() == {"booted_at": UNKNOWN.imaged_at, "collected_at": UNKNOWN.imaged_at}


def test_clones_have_in_common_what_is_the_same_and_not_missing() -> None:
    one = Clone({"hostname": "a", "machine_id": "1", "nvme_hostid": None, "ssh_host_keys": ["x", "y"]})

    assert clone.in_common(one, one) == ["hostname", "machine_id", "ssh_host_keys"]


def test_one_shared_host_key_is_enough_to_be_in_common() -> None:
    one = Clone({"hostname": "a", "machine_id": "1", "nvme_hostid": None, "ssh_host_keys": ["x", "y"]})
    other = Clone({"hostname": "b", "machine_id": "2", "nvme_hostid": "n", "ssh_host_keys": ["z", "y"]})
    apart = Clone({"hostname": "b", "machine_id": "2", "nvme_hostid": "n", "ssh_host_keys": ["z"]})

    assert clone.in_common(one, other) == ["ssh_host_keys"]
    assert clone.in_common(one, apart) == []
    assert clone.in_common(one, Clone()) == []
