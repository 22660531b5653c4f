from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import boto3
import pytest

from localaws import cloud, daemon, preflight
from localaws.errors import AlreadyUpError, LocalAwsError, NothingToPublishError, NotUpError, PreflightError
from localaws.layout import Layout

FACTS = cloud.Facts(
    process_id=1,
    endpoint_url="http://127.0.0.1:4566",
    base_image_id="ami-1",
    base_parameter="/base",
    next_base_image_id="ami-2",
    subnet_id="subnet-1",
    downloads_url="http://198.51.100.1:8080",
    downloads_key_fingerprint="0123456789ABCDEF",
)


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A state folder of nobody's; who asks passes for root, since nothing here needs to be it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Layout(tmp_path / "state")


@contextmanager
def locked(layout: Layout, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold the lock, as a daemon does, or as one who looks does."""
    layout.state.mkdir(exist_ok=True)
    with layout.lock.open("a") as lock:
        fcntl.flock(lock, how)
        yield


def refuse(_layout: Layout) -> None:
    raise PreflightError("Something is missing.")


def test_cloud_that_was_never_up_is_not_up(layout: Layout) -> None:
    with pytest.raises(NotUpError, match=r"start it with `invoke offline\.up`") as caught:
        cloud.facts(layout)
    assert caught.value.exit_code == 2
    assert cloud.machines(layout) == []
    assert not layout.state.exists()


def test_facts_come_back_while_the_daemon_lives(layout: Layout) -> None:
    layout.run.mkdir(parents=True)
    cloud.write_facts(layout, FACTS)

    with locked(layout):
        assert cloud.facts(layout) == FACTS
    with pytest.raises(NotUpError):
        cloud.facts(layout)


def test_cloud_that_is_starting_has_no_facts_yet(layout: Layout) -> None:
    with locked(layout), pytest.raises(NotUpError):
        cloud.facts(layout)


def test_two_who_look_do_not_take_each_other_for_a_daemon(layout: Layout) -> None:
    with locked(layout, fcntl.LOCK_SH):
        assert not cloud._is_locked(layout)


def test_document_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    cloud.write_json(path, {"a": 1})
    before = path.stat().st_ino
    cloud.write_json(path, {"a": 2})

    assert json.loads(path.read_text()) == {"a": 2}
    assert path.stat().st_ino != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["document.json"]


def test_machines_are_what_the_daemon_wrote(layout: Layout) -> None:
    layout.run.mkdir(parents=True)
    cloud.write_json(layout.run / "machines.json", [{"instance_id": "i-1", "state": "running"}])

    assert cloud.machines(layout) == [{"instance_id": "i-1", "state": "running"}]


def test_parts_name_every_address() -> None:
    text = "\n".join(f"{name} {where}" for name, where in FACTS.parts())

    for name in ("endpoint_url", "base_image_id", "subnet_id", "downloads_url"):
        assert str(asdict(FACTS)[name]) in text


def test_environment_leads_clients_here_whatever_the_user_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("[profile mine]\nregion = eu-west-1\nendpoint_url = http://192.0.2.1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.setenv(name, "mine")
    for name, value in {"AWS_SESSION_TOKEN": "mine", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}.items():
        monkeypatch.setenv(name, value)

    for name, value in cloud.environment(FACTS).items():
        monkeypatch.setenv(name, value)

    session = boto3.Session()
    credentials = session.get_credentials()
    assert credentials is not None
    assert (credentials.access_key, credentials.secret_key) == ("localaws", "localaws")
    assert not credentials.token
    assert session.client("ec2").meta.endpoint_url == FACTS.endpoint_url
    assert session.region_name == "us-east-1"


def test_daemon_forgets_the_callers_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://192.0.2.1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/home/mine")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/home/mine")

    daemon._forget_aws_settings()

    left = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    assert left == {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def test_up_twice_at_once_is_refused_and_touches_nothing(layout: Layout) -> None:
    layout.run.mkdir(parents=True)
    (layout.run / "daemon.log").write_text("of the first")
    said: list[str] = []

    with locked(layout), pytest.raises(AlreadyUpError, match=r"look with `invoke offline\.status`") as caught:
        cloud.up(layout, said.append)

    assert caught.value.exit_code == 2
    assert (layout.run / "daemon.log").read_text() == "of the first"
    assert said == []


def test_others_than_root_change_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    for command in (lambda: cloud.up(layout, print), lambda: cloud.down(layout)):
        with pytest.raises(PreflightError, match="sudo"):
            command()
    assert not layout.state.exists()


def test_what_a_killed_daemon_left_is_cleaned_before_anything_is_checked(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "check", refuse)
    (layout.machines / "i-1/writes").mkdir(parents=True)
    cloud.write_facts(layout, FACTS)
    (layout.cache / "debian-1").mkdir(parents=True)

    with pytest.raises(PreflightError, match="Something is missing"):
        cloud.up(layout, print)

    assert not layout.run.exists()
    assert (layout.cache / "debian-1").is_dir()
    assert not cloud._is_locked(layout)


def test_down_of_what_is_not_up_cleans_up_and_says_so(layout: Layout) -> None:
    (layout.machines / "i-1").mkdir(parents=True)
    cloud.write_facts(layout, FACTS)

    assert cloud.down(layout) is False
    assert not layout.run.exists()


def test_daemon_that_did_not_start_is_quoted(layout: Layout) -> None:
    layout.run.mkdir(parents=True)
    layout.daemon_log.write_text("Traceback\nOSError: the reason\n")

    with pytest.raises(LocalAwsError, match="did not start: OSError: the reason"):
        cloud._wait_until_ready(layout)


def test_the_next_base_image_is_published_once(layout: Layout) -> None:
    layout.run.mkdir(parents=True)
    cloud.write_facts(layout, FACTS)

    with locked(layout):
        published = cloud.publish_base(layout)
        assert (published.base_image_id, published.next_base_image_id) == ("ami-2", "")
        assert cloud.facts(layout) == published
        with pytest.raises(NothingToPublishError, match="ami-2 is the newest base image there is") as caught:
            cloud.publish_base(layout)
    assert caught.value.exit_code == 2


def test_a_cloud_that_is_down_publishes_nothing(layout: Layout) -> None:
    with pytest.raises(NotUpError):
        cloud.publish_base(layout)
