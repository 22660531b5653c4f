"""What refers to images in an account: every source is asked for all it has, page by page, and none image by image.

A source that does not answer is remembered with its reason: then nothing may be deleted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, PreflightError
from gpunodes.prune.offered import MissingSourceError
from gpunodes.prune.permissions import explained


@dataclass(frozen=True)
class Reference:
    """Somebody who would miss an image.

    Attributes:
        ami_id: the image.
        kind: such as `instance` or `launch template`.
        name: of whoever refers to it, such as `i-0123456789abcdef0 (stopped)`.
    """

    ami_id: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


Find = Callable[[Clients], Iterable[Reference]]


@dataclass(frozen=True)
class Source:
    """Where references come from.

    Attributes:
        name: for people, such as `instances`.
        find: asks AWS for all of them.
    """

    name: str
    find: Find


@dataclass(frozen=True)
class References:
    """All that was found.

    Attributes:
        by_image: AMI id -> who refers to it.
        answered: names of the sources that said all they have.
        lacking: name of a source that does not exist in this region -> what does not; it did not fail.
        failed: name of a source that did not answer -> why. Where there is one, nothing may be deleted.
    """

    by_image: Mapping[str, Sequence[Reference]] = field(default_factory=dict)
    answered: Sequence[str] = ()
    lacking: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def of(self, ami_id: str) -> Sequence[Reference]:
        """Who refers to an image; empty says nothing unless `are_complete`."""
        return self.by_image.get(ami_id, ())

    @property
    def are_complete(self) -> bool:
        """Whether every source that there is has answered."""
        return not self.failed


def collect(clients: Clients, sources: Sequence[Source]) -> References:
    """Ask every source, also after one that failed: a plan shows all that is known.

    Args:
        clients: of the target.
        sources: each is asked once.

    Raises:
        PreflightError: the credentials are no longer valid; no other source would answer either.
    """
    by_image: dict[str, list[Reference]] = defaultdict(list)
    answered: list[str] = []
    lacking: dict[str, str] = {}
    failed: dict[str, str] = {}
    for source in sources:
        try:
            found = list(source.find(clients))  # all of it, before any of it counts
        except MissingSourceError as error:
            lacking[source.name] = str(error)
        except PreflightError:
            raise
        except AwsError as error:
            failed[source.name] = explained(error)
        else:
            answered.append(source.name)
            for reference in found:
                by_image[reference.ami_id].append(reference)
    return References(dict(by_image), answered, lacking, failed)
