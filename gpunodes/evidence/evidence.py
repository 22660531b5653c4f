"""The evidence of an image: its record, its packages, a page for people, and what each proof of it found."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunodes.errors import UsageError
from gpunodes.evidence import image_record, sbom
from gpunodes.evidence.image_record import ImageRecord, PackageList
from gpunodes.evidence.sbom import Package, Subject
from gpunodes.operation.runs import Run
from gpunodes.settings import Settings

TAG_DIGEST = "gpunodes:evidence-sha256"
PAGE_NAME = "image.html"


@dataclass(frozen=True)
class Proof:
    """What one test instance showed.

    Attributes:
        run_id: of the proof.
        result: `passed` or `failed`.
        instance_type: what it ran on.
        proved_at: ISO 8601.
        failed_checks: names of the checks that failed.
        checks: how many were made.
    """

    run_id: str
    result: str
    instance_type: str
    proved_at: str
    failed_checks: tuple[str, ...]
    checks: int


@dataclass(frozen=True)
class Standing:
    """What the proofs say of an image.

    Attributes:
        mark: `passed`, `failed` or `unproven`.
        text: for people.
    """

    mark: str
    text: str


def standing(proofs: Sequence[Proof]) -> Standing:
    """What the newest proof says; an older one that failed or passed does not count any more."""
    if not proofs:
        return Standing("unproven", "not proven on an instance yet")
    newest = proofs[-1]
    if newest.result == "passed":
        return Standing("passed", f"passed all {newest.checks} checks on {newest.instance_type}")
    failed = len(newest.failed_checks)
    return Standing("failed", f"failed {failed} of {newest.checks} checks on {newest.instance_type}")


def image_folder(settings: Settings, ami_id: str) -> Path:
    """Folder with everything that is known of an image."""
    return settings.work_folder / "evidence" / ami_id


def remove(settings: Settings, ami_id: str) -> None:
    """Forget an image that never came to be."""
    shutil.rmtree(image_folder(settings, ami_id), ignore_errors=True)


def write_packages(settings: Settings, packages: Sequence[Package], subject: Subject) -> PackageList:
    """Write the image's packages as CycloneDX into its folder; return what the record says of them."""
    folder = _folder(settings, subject.ami_id)
    document = sbom.document(packages, subject)
    data = f"{json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)}\n".encode()
    _replace(folder / sbom.FILE_NAME, data)
    count = sum("purl" in component for component in document["components"])
    return PackageList(count, sbom.FILE_NAME, hashlib.sha256(data).hexdigest())


def write_record(settings: Settings, run: Run, record: ImageRecord) -> Path:
    """Write `image.json` and its page into the image's folder, after its packages, and keep Packer's log there.

    Returns:
        The folder.
    """
    folder = _folder(settings, record.ami_id)
    log = run.folder / "packer.log"
    if log.exists():
        shutil.copy(log, folder / log.name)
    _replace(folder / image_record.FILE_NAME, record.canonical_bytes())
    _write_page(folder, record)
    return folder


def seal_digest(record: ImageRecord) -> tuple[str, str]:
    """The tag that binds the record to the image: its key, and the hex digest of `image.json`."""
    return TAG_DIGEST, hashlib.sha256(record.canonical_bytes()).hexdigest()


def write_proof(settings: Settings, run: Run, ami_id: str, document: dict[str, Any]) -> Path:
    """Keep what a test instance showed, `proof-RUN.json`, with its page and its JUnit XML, and on the image's page."""
    from gpunodes.proof_report import junit, proof_page  # noqa: PLC0415 - for Jinja, as below

    folder = _folder(settings, ami_id)
    path = _write(folder / f"proof-{run.run_id}.json", document)
    read_back = json.loads(path.read_bytes())  # as whoever opens the file will have it
    _replace(path.with_suffix(".html"), proof_page.page(read_back).encode())
    _replace(path.with_suffix(".xml"), junit.document(read_back).encode())
    if (folder / image_record.FILE_NAME).exists():
        # A proof counts, whatever became of the other files; it is `explain` that complains of them.
        with contextlib.suppress(UsageError):
            _write_page(folder, image_record.read(folder / image_record.FILE_NAME))
    return path


def read_record(settings: Settings, ami_id: str) -> ImageRecord | None:
    """The record of an image; None where this machine has none.

    Raises:
        UsageError: it is damaged, or that of another image.
    """
    path = image_folder(settings, ami_id) / image_record.FILE_NAME
    if not path.exists():
        return None
    record = image_record.read(path)
    if record.ami_id != ami_id:
        raise UsageError(f"{path} is the record of {record.ami_id}; restore that of {ami_id}.")
    return record


def read_digest(settings: Settings, ami_id: str) -> str:
    """Hex digest of the `image.json` that lies here."""
    return image_record.sha256_of(image_folder(settings, ami_id) / image_record.FILE_NAME)


def read_packages(settings: Settings, record: ImageRecord) -> list[Package]:
    """The packages of an image, from the very file that its record names.

    Raises:
        UsageError: the file is missing, or another than the record says.
    """
    return _packages(image_folder(settings, record.ami_id), record)


def read_proofs(settings: Settings, ami_id: str) -> list[Proof]:
    """What each proof of an image found, the oldest first.

    Raises:
        UsageError: a file is damaged.
    """
    return _proofs(image_folder(settings, ami_id))


def _proofs(folder: Path) -> list[Proof]:
    return sorted((_proof(path) for path in folder.glob("proof-*.json")), key=lambda proof: proof.proved_at)


def _proof(path: Path) -> Proof:
    try:
        document = json.loads(path.read_bytes())
        checks = document["checks"]
        return Proof(
            run_id=str(document["run_id"]),
            result=str(document["result"]),
            instance_type=str(document["instance_type"]),
            proved_at=str(document["proved_at"]),
            failed_checks=tuple(str(check["name"]) for check in checks if check["passed"] is False),
            checks=len(checks),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({error!r}); delete it, and prove the image again.") from error


def _packages(folder: Path, record: ImageRecord) -> list[Package]:
    path = folder / Path(record.packages.file).name  # a record must not lead out of its folder
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}); copy it from the machine that baked the image."
        ) from error
    if hashlib.sha256(data).hexdigest() != record.packages.sha256:
        raise UsageError(
            f"{path} is not the file whose digest image.json names; copy it from the machine that baked the image."
        )
    return sbom.packages_of(json.loads(data))


def _write_page(folder: Path, record: ImageRecord) -> None:
    from gpunodes.evidence import image_page  # noqa: PLC0415 - Jinja costs 0.1 s that no other command should pay

    try:
        packages = _packages(folder, record)
    except UsageError:
        packages = None  # the page says so
    page = image_page.render(record, _proofs(folder), packages)
    _replace(folder / PAGE_NAME, page.encode())


def _folder(settings: Settings, ami_id: str) -> Path:
    folder = image_folder(settings, ami_id)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path, document: dict[str, Any]) -> Path:
    return _replace(path, f"{json.dumps(document, indent=2, default=str)}\n".encode())


def _replace(path: Path, data: bytes) -> Path:
    """Whole or not at all, even when the process is killed meanwhile."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(data)
    return unfinished.replace(path)
