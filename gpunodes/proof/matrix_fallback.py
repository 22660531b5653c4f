"""Where a proof goes on when AWS has no capacity: the type's next availability zone, then the entry's next type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpunodes.proof import capacity
from gpunodes.proof.matrix_policy import Entry


@dataclass(frozen=True)
class Place:
    """What a proof is tried on.

    Attributes:
        instance_type: of the instance.
        zone: availability zone; empty for the one that AWS chooses.
    """

    instance_type: str
    zone: str = ""

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.zone}" if self.zone else self.instance_type


@dataclass
class Fallback:
    """The places of one entry, one after another.

    Attributes:
        entry: its types in their order.
        zones: that offer each type.
        first_zone: where each type is tried first; empty for the zone that AWS chooses.
        tried: places without capacity, in their order.
    """

    entry: Entry
    zones: Mapping[str, Sequence[str]]
    first_zone: str = ""
    tried: list[Place] = field(default_factory=list)
    _full: set[tuple[str, str]] = field(default_factory=set)

    @property
    def first(self) -> Place:
        """Where the entry begins."""
        return Place(self.entry.types[0], self.first_zone)

    def after(self, place: Place, error: str) -> Place | None:
        """The place after one that had no capacity; None where none is left."""
        self.tried.append(place)
        self._full |= {(place.instance_type, place.zone), (place.instance_type, capacity.failed_zone(error))}
        return next((other for other in self._places() if not self._is_tried(other)), None)

    def _places(self) -> list[Place]:
        return [Place(name, zone) for name in self.entry.types for zone in (self.first_zone, *self.zones.get(name, ()))]

    def _is_tried(self, place: Place) -> bool:
        return place in self.tried or (bool(place.zone) and (place.instance_type, place.zone) in self._full)
