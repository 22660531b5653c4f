"""Command line of the stand-in agent: `amazon-cloudwatch-agent [--etc DIR] [--check FILE...] [--version]`."""

import argparse
import logging
import os
import pwd
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from . import VERSION
from .configuration import Configuration, configuration_files, load
from .errors import AgentError, ConfigurationError
from .metadata import read_identity, resolve
from .publisher import CloudWatch, Publisher
from .service import Service

log = logging.getLogger("amazon-cloudwatch-agent")

ETC = Path("/opt/aws/amazon-cloudwatch-agent/etc")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 1 when the agent cannot start."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        if options.check:
            load(options.check)
        else:
            _run(load(configuration_files(options.etc)))
    except AgentError as error:
        log.error("E! %s", error)  # noqa: TRY400
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("amazon-cloudwatch-agent", description="Stand-in for the Amazon CloudWatch agent.")
    parser.add_argument("--etc", type=Path, default=ETC, help="directory of the configuration")
    parser.add_argument("--check", type=Path, nargs="+", metavar="FILE", help="only check these files, merged")
    parser.add_argument("--version", action="version", version=f"{VERSION} (stand-in)")
    return parser


def _run(configuration: Configuration) -> None:
    if configuration.run_as_user and os.geteuid() == 0:
        _become(configuration.run_as_user)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    identity = read_identity()
    dimensions = resolve(configuration.append_dimensions, identity) or {"host": socket.gethostname()}
    region = configuration.region or os.environ.get("AWS_REGION") or identity["region"]
    publisher = Publisher(CloudWatch(region, configuration.endpoint_override), configuration.namespace)
    service = Service(configuration, dimensions, publisher)
    log.info("I! stand-in agent %s: %s in %s with %s", VERSION, configuration.namespace, region, dimensions)
    while not stop.wait(service.tick(time.monotonic(), datetime.now(timezone.utc))):
        pass
    service.stop()


def _become(name: str) -> None:
    try:
        user = pwd.getpwnam(name)
    except KeyError as error:
        raise ConfigurationError(f"Create the user {name} or change run_as_user: it does not exist.") from error
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


if __name__ == "__main__":
    sys.exit(main())
