"""The record of an image: what it was baked from and what each proof of it found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gpunodes.runs import Run
from gpunodes.settings import Settings


def image_folder(settings: Settings, ami_id: str) -> Path:
    """Folder with everything that is known of an image."""
    return settings.work_folder / "evidence" / ami_id


def write_image(settings: Settings, run: Run, ami_id: str, document: dict[str, Any]) -> Path:
    """Keep how an image was baked: `image.json`, and Packer's log."""
    folder = image_folder(settings, ami_id)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.folder / "packer.log", folder / "packer.log")
    return _write(folder / "image.json", document)


def write_proof(settings: Settings, run: Run, ami_id: str, document: dict[str, Any]) -> Path:
    """Keep what a test instance showed: `proof-RUN.json`."""
    folder = image_folder(settings, ami_id)
    folder.mkdir(parents=True, exist_ok=True)
    return _write(folder / f"proof-{run.run_id}.json", document)


def _write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document, indent=2, default=str) + "\n")
    return path
