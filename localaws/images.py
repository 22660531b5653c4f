"""AMI id to root filesystem: an image is a stack of read-only layers, and capturing an instance adds one on top."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localaws.commands import run
from localaws.errors import CommandFailed, LocalAwsError


@dataclass(frozen=True)
class Image:
    """A root filesystem.

    Attributes:
        image_id: the AMI id that the API gave.
        layers: folders for overlayfs, uppermost first.
    """

    image_id: str
    layers: tuple[Path, ...]


class ImageStore:
    """The images whose disks exist on this machine."""

    def __init__(self, folder: Path, bases: Sequence[Image]) -> None:
        self._folder = folder
        self._images = {base.image_id: base for base in bases}
        self._base_ids = set(self._images)
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._images

    def get(self, image_id: str) -> Image:
        """The image with this AMI id.

        Raises:
            LocalAwsError: the API knows no such image, or it was made before this `up`.
        """
        if image_id not in self._images:
            raise LocalAwsError(f"No disk is kept for image {image_id}; launch from one that `DescribeImages` lists.")
        return self._images[image_id]

    def capture(self, image_id: str, writes: Path, below: Image) -> Image:
        """Keep an instance's disk as an image.

        Args:
            image_id: the AMI id that CreateImage returned.
            writes: the overlay's upper folder of the instance, which must not be running.
            below: the image that the instance was launched from.

        Raises:
            CommandFailed: the copy failed, for instance because the disk is full.
        """
        layer = self._folder / image_id
        # -a keeps owners, hard links, and what overlayfs needs: whiteouts (device 0:0) and trusted.* attributes.
        try:
            run(["cp", "--archive", "--reflink=auto", str(writes), str(layer)])
        except CommandFailed:
            shutil.rmtree(layer, ignore_errors=True)  # half a disk is none
            raise
        image = Image(image_id, (layer, *below.layers))
        self._images[image_id] = image
        return image

    def alias(self, image_id: str, source_image_id: str) -> None:
        """Let a copied image (CopyImage) have the disk of its source."""
        self._images[image_id] = Image(image_id, self.get(source_image_id).layers)

    def keep_only(self, known: set[str], in_use: set[Path]) -> None:
        """Forget images that the API no longer lists and delete layers that nothing needs.

        Args:
            known: AMI ids that the API lists.
            in_use: layers of instances that still have a machine.
        """
        self._images = {name: image for name, image in self._images.items() if name in known | self._base_ids}
        needed = in_use.union(*(image.layers for image in self._images.values()))
        for layer in self._folder.iterdir():
            if layer not in needed:
                shutil.rmtree(layer)
