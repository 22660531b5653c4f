from __future__ import annotations

from datetime import timedelta

from gpunodes.aws import Clients
from gpunodes.proof.datapoints import DatapointReader, Series
from gpunodes.proof.foreign_series import foreign_series
from tests.gpunodes.fakes import INSTANCE_ID
from tests.gpunodes.proof.test_datapoints import MINUTE, gpu_series, put, reader

OWN = [gpu_series(0), gpu_series(1), Series.of("GPU", "Heartbeat", {"InstanceId": INSTANCE_ID})]


def foreign(clients: Clients, builder_id: str = "i-builder") -> set[str]:
    found = foreign_series(reader(clients), OWN, instance_id=INSTANCE_ID, builder_id=builder_id, since=MINUTE)
    assert all(found.values())
    return set(map(str, found))


def test_an_instance_that_publishes_as_itself_has_no_foreign_series(clients: Clients) -> None:
    for series in OWN:
        put(clients, series, MINUTE, [1.0], [1])
    put(clients, gpu_series(7, "i-neighbour"), MINUTE, [1.0], [1])  # of the same fleet, and none of our business

    assert foreign(clients) == set()


def test_series_under_the_builders_id_are_foreign_whatever_gpu_they_are_of(clients: Clients) -> None:
    put(clients, gpu_series(7, "i-builder"), MINUTE, [1.0], [1])

    assert foreign(clients) == {str(gpu_series(7, "i-builder"))}
    assert foreign(clients, builder_id="") == set()


def test_the_builders_own_datapoints_of_before_are_not_foreign(clients: Clients) -> None:
    put(clients, gpu_series(0, "i-builder"), MINUTE - timedelta(minutes=1), [1.0], [1])

    assert foreign(clients) == set()


def test_our_gpus_under_any_other_id_are_foreign(clients: Clients) -> None:
    put(clients, gpu_series(1, "i-wrong"), MINUTE, [1.0], [1])

    assert foreign(clients, builder_id="") == {str(gpu_series(1, "i-wrong"))}


def test_series_that_cloudwatch_does_not_list_yet_are_found_by_their_dimensions(clients: Clients) -> None:
    class Listless(DatapointReader):
        def series_named(self, *_words: object, **_more: object) -> set[Series]:
            return set()

    put(clients, gpu_series(1, "i-builder"), MINUTE, [1.0], [1])
    blind = Listless(clients, MINUTE, now=lambda: MINUTE + timedelta(minutes=5))

    found = foreign_series(blind, OWN, instance_id=INSTANCE_ID, builder_id="i-builder", since=MINUTE)
    assert list(found) == [gpu_series(1, "i-builder")]
