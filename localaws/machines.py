"""One systemd-nspawn container for each instance: its disk an overlay of its image, its GPUs a simulated state."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from localaws import network
from localaws.cgroups import ControlGroups
from localaws.commands import Process, run, start, wait
from localaws.errors import CommandFailed, LocalAwsError
from localaws.images import Image
from localaws.simgpu.gpus import SimulatedGpus

_SHUTDOWN_SECONDS = 20.0
_REBOOTED_STATUS = 133  # with --keep-unit, nspawn leaves it to its starter to boot again, and says so with this
_OVERLAY_OPTIONS = "index=off,metacopy=off,redirect_dir=off"  # what a copy of the upper folder can carry on
_HALT = signal.SIGRTMIN + 3  # tells a systemd to halt in good order
_ASK_AGAIN_SECONDS = 0.5
_PCI_DEVICES = Path("/sys/bus/pci/devices")


@dataclass(frozen=True)
class InstanceSpec:
    """What the API says of an instance, as far as its machine needs it."""

    instance_id: str
    instance_type: str
    private_address: str
    mac_address: str


@dataclass
class Machine:
    """An instance's machine: a folder with its disk, and a process while it runs.

    Attributes:
        spec: the instance.
        image: what its disk was made from.
        folder: `writes` (the disk's changes), `root` (mount point while running), `gpus`, `console.log`.
        groups: control groups of this cloud's machines.
    """

    spec: InstanceSpec
    image: Image
    folder: Path
    groups: ControlGroups
    _process: Process | None = field(default=None, repr=False)

    @property
    def writes(self) -> Path:
        """The overlay's upper folder: all that the instance changed on its disk."""
        return self.folder / "writes"

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped from outside since; it may have halted by itself."""
        return self._process is not None

    @property
    def has_halted(self) -> bool:
        """Whether it was started and its process ended by itself, as after `poweroff` inside."""
        return self._process is not None and self._process.poll() not in {None, _REBOOTED_STATUS}

    @property
    def has_rebooted(self) -> bool:
        """Whether `reboot` inside ended its process; somebody must start it again."""
        return self._process is not None and self._process.poll() == _REBOOTED_STATUS

    def start(self) -> None:
        """Mount the disk, connect the network, boot.

        Raises:
            CommandFailed: a mount or the network could not be made.
        """
        for name in ("writes", "work", "root"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "writes").chmod(0o755)
        self._install_gpus()
        try:
            self._mount()
            namespace = network.connect_instance(
                self.spec.instance_id, self.spec.private_address, self.spec.mac_address
            )
            self._process = start(
                self._nspawn(namespace),
                log=self.folder / "console.log",
                cgroup_files=self.groups.create(self.spec.instance_id),
            )
        except BaseException:
            self._give_back()
            raise

    def request_stop(self) -> None:
        """Ask it to halt, as the power button does; `finish_stop` waits for it."""
        if self._process is not None and self._process.poll() is None:
            for leader in _children(self._process.pid):
                _signal(leader, _HALT)

    def finish_stop(self, patience_seconds: float = _SHUTDOWN_SECONDS) -> None:
        """Wait for the halt, pull the plug if it takes too long, and give mounts and network back."""
        if self._process is None:
            return
        deadline = time.monotonic() + patience_seconds
        while not wait(self._process, _ASK_AGAIN_SECONDS):
            if time.monotonic() > deadline:
                self._process.kill()
            self.request_stop()  # a systemd that has only just started does not hear the first request
        self._give_back()
        self._process = None

    def stop(self) -> None:
        """Halt it and wait."""
        self.request_stop()
        self.finish_stop()

    def destroy(self) -> None:
        """Stop it and delete its disk.

        Raises:
            LocalAwsError: the disk is still mounted; nothing was deleted.
        """
        self.stop()
        _unmount(self.folder / "root")
        if (self.folder / "root").is_mount():
            raise LocalAwsError(f"The disk of {self.spec.instance_id} cannot be unmounted; see `run/daemon.log`.")
        shutil.rmtree(self.folder)

    def _give_back(self) -> None:
        with ExitStack() as undo:  # each is done whatever becomes of the others
            undo.callback(_unmount, self.folder / "root")
            undo.callback(network.disconnect_instance, self.spec.instance_id)
            undo.callback(self.groups.remove, self.spec.instance_id)
            undo.callback(self.groups.kill, self.spec.instance_id)

    def _install_gpus(self) -> None:
        gpus = self.folder / "gpus"
        if not gpus.is_dir():
            gpus.mkdir()
            SimulatedGpus(gpus).install(self.spec.instance_type, self.spec.instance_id)

    def _mount(self) -> None:
        lower = ":".join(str(layer) for layer in self.image.layers)
        places = f"lowerdir={lower},upperdir={self.writes},workdir={self.folder / 'work'}"
        if len(places) > os.sysconf("SC_PAGE_SIZE") - 200:  # mount(2) takes one page of options
            message = f"Image {self.image.image_id} has too many layers; bake again from the base image."
            raise LocalAwsError(message)
        run(["mount", "-t", "overlay", "-o", f"{places},{_OVERLAY_OPTIONS}", "overlay", str(self.folder / "root")])

    def _nspawn(self, network_namespace: Path) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--directory={self.folder / 'root'}",
            f"--machine={self.spec.instance_id}",
            f"--network-namespace-path={network_namespace}",
            f"--bind={self.folder / 'gpus'}:/run/simgpu",
            *self._pci_devices(),
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=read-only",
        ]

    def _pci_devices(self) -> list[str]:
        """The GPUs as the only devices in sysfs; a machine without GPUs keeps what the host has."""
        devices = self.folder / "gpus" / "pci"
        # nspawn cannot make a mount point in sysfs: on a host without PCI there is none
        return [f"--bind-ro={devices}:{_PCI_DEVICES}"] if devices.is_dir() and _PCI_DEVICES.is_dir() else []


def _unmount(path: Path) -> None:
    """Unmount, with a little patience: a process that was just killed may still hold a file open."""
    for attempt in range(50):
        if not path.is_mount():
            return
        try:
            run(["umount", str(path)])
        except CommandFailed:
            if attempt == 49:
                raise
            time.sleep(0.1)


def _children(process_id: int) -> list[int]:
    """Of nspawn that is the container's init alone."""
    try:
        return [int(word) for word in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _signal(process_id: int, number: int) -> None:
    try:
        os.kill(process_id, number)
    except ProcessLookupError:
        return  # it ended by itself meanwhile, which is what was wanted
