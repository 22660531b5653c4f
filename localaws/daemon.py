"""The process behind `offline.up`: API, metadata service, downloads, and the thread that keeps the machines in step."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from localaws import api, base_image, base_releases, cloud, metadata, network
from localaws.aws import Account
from localaws.base_releases import PublicParameter, Release
from localaws.cgroups import ControlGroups
from localaws.commands import run
from localaws.downloads import server as downloads
from localaws.images import ImageStore
from localaws.instance_connect import PushedKeys
from localaws.instance_sync import InstanceSync
from localaws.layout import (
    DEFAULT_PORT,
    DOWNLOADS_PORT,
    METADATA_ADDRESS,
    ROUTER_ADDRESS,
    SUBNET_CIDR,
    Layout,
    port_from_environment,
)
from localaws.machines import Machine
from localaws.permissions import Denials
from localaws.reachable import private_addresses, wait_for_ssh

_LOG = logging.getLogger("localaws")
_GLANCE_SECONDS = 0.1  # one attempt: an instance refresh asks again, and keeps nobody waiting
_NEXT_STEP_SECONDS = 0.5  # while instances are replaced
_LOOK_AROUND_SECONDS = 5.0  # machines that halt from inside are noticed that late; API calls at once


def main() -> int:
    """Serve until SIGTERM; the state folder comes from the environment, mount and PID namespace must be its own."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    layout = Layout.from_environment()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    process_id = int(Path("/proc/self").readlink().name)  # as this machine counts; in its own PID namespace it is 1
    cloud.write_json(layout.daemon_process_id, process_id)
    _forget_aws_settings()
    run(["mount", "-t", "proc", "proc", "/proc"])  # this namespace's own
    # Whatever nspawn and `ip netns` keep in /run belongs to this process alone and dies with it.
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "localaws", "/run"])
    network.create_router()
    try:
        _serve(layout, stop, process_id)
    finally:
        network.delete_router()
    return 0


def _forget_aws_settings() -> None:
    """Keep the caller's profile, endpoints and files away from the daemon's own clients, which need none of them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def _serve(layout: Layout, stop: threading.Event, process_id: int) -> None:
    layers = tuple(base_image.ensure(layout.cache, _LOG.info))
    bases = base_releases.make(base_image.digest(), layers, layout.second_base, datetime.now(UTC))
    observed = _start_api(layout, bases)
    endpoint = f"http://127.0.0.1:{port_from_environment()}"
    account = Account(endpoint)
    observed.denials = Denials(account)
    observed.pushed_keys = pushed_keys = PushedKeys(account)
    subnet_id = account.create_network(SUBNET_CIDR)
    groups = ControlGroups(layout.control_group)
    sync = InstanceSync(
        account,
        ImageStore(layout.images, [base.image for base in bases]),
        lambda spec, image: Machine(spec, image, layout.machines / spec.instance_id, groups),
    )
    _start_metadata(account, sync, pushed_keys)
    fingerprint = downloads.build_tree(layout.cache / "downloads")
    _run_server(downloads.serve(layout.cache / "downloads", network.listen_in_router(ROUTER_ADDRESS, DOWNLOADS_PORT)))
    facts = cloud.Facts(
        process_id=process_id,
        endpoint_url=endpoint,
        base_image_id=bases[0].image.image_id,
        base_parameter=base_releases.PARAMETER,
        next_base_image_id=bases[1].image.image_id,
        subnet_id=subnet_id,
        downloads_url=f"http://{ROUTER_ADDRESS}:{DOWNLOADS_PORT}",
        downloads_key_fingerprint=fingerprint,
    )
    _sync_until(stop, sync, observed, lambda: cloud.write_facts(layout, facts), layout)


def _sync_until(
    stop: threading.Event, sync: InstanceSync, observed: api.ObservedApi, ready: Any, layout: Layout
) -> None:
    """Reconcile on this, the main thread: machines die with the thread that started them."""
    ready()
    calls: list[api.Ec2Call] = []
    try:
        while not stop.is_set():
            try:
                sync.reconcile(calls)
                calls = []
            except (BotoCoreError, ClientError) as error:
                _LOG.error("the API did not answer, the machines stay as they are: %s", error)
            _write_machines(layout, sync)
            calls += _next_calls(observed)
    finally:
        sync.stop_all()


def _next_calls(observed: api.ObservedApi) -> list[api.Ec2Call]:
    """Wait for a call, or for the next look around; take all that are there."""
    try:
        patience_seconds = _NEXT_STEP_SECONDS if observed.is_replacing else _LOOK_AROUND_SECONDS
        calls = [observed.calls.get(timeout=patience_seconds)]
    except queue.Empty:
        return []
    while not observed.calls.empty():  # this thread is the only one that takes
        calls.append(observed.calls.get())
    return calls


def _start_api(layout: Layout, bases: list[Release]) -> api.ObservedApi:
    amis = layout.run / "amis.json"
    amis.write_text(json.dumps([base.ami() for base in bases]))
    observed = api.ObservedApi(
        api.load_moto(amis),
        launched=lambda answer: wait_for_ssh(private_addresses(answer)),
        is_ready=lambda addresses: wait_for_ssh(addresses, _GLANCE_SECONDS),
    )
    observed.public_parameter = PublicParameter(lambda: cloud.read_facts(layout).base_image_id)
    _run_server(api.serve(observed, socket.create_server(("127.0.0.1", port_from_environment()), backlog=128)))
    _run_server(api.serve(observed, network.listen_in_router(ROUTER_ADDRESS, DEFAULT_PORT)))
    return observed


def _start_metadata(account: Account, sync: InstanceSync, pushed_keys: PushedKeys) -> None:
    def tree_of(address: str) -> metadata.Tree | None:
        instance = sync.instance_at(address)
        if instance is None:
            return None
        return account.metadata_of(instance, pushed_keys=pushed_keys.of(instance["InstanceId"]))

    def requires_token(address: str) -> bool:
        instance = sync.instance_at(address) or {}
        return bool(instance.get("MetadataOptions", {}).get("HttpTokens") != "optional")

    _run_server(metadata.serve(network.listen_in_router(METADATA_ADDRESS, 80), tree_of, requires_token))


def _run_server(server: Any) -> None:
    threading.Thread(target=server.serve_forever, daemon=True, name=type(server).__name__).start()


def _write_machines(layout: Layout, sync: InstanceSync) -> None:
    cloud.write_json(layout.run / "machines.json", sync.machines())


if __name__ == "__main__":
    sys.exit(main())
