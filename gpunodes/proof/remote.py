"""An instance over SSH (Fabric)."""

from __future__ import annotations

import io
import logging
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabric
import invoke.exceptions
import paramiko

from gpunodes.errors import AwsError, ToolError

_CONNECT_SECONDS = 5
_POLL_SECONDS = 0.2
_COMMAND_SECONDS = 120
_BROKEN = (OSError, EOFError, paramiko.SSHException)
# Each attempt to connect that fails becomes an error of ours; paramiko's own account of it would go to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Remote:
    """One instance, with the key of the run and nothing of the operator's own SSH configuration."""

    def __init__(
        self,
        host: str,
        user: str,
        private_key: Path,
        proxy_command: str = "",
        admit: Callable[[], Exception | None] | None = None,
    ) -> None:
        """Make a connection, closed as yet.

        Args:
            host: address or name.
            user: to log in as.
            private_key: file of the run's key.
            proxy_command: program whose input and output are the connection; empty for plain TCP.
            admit: called before every attempt to connect, so that the instance knows the key, and tells what is in
                the way for now; None where it knows the key for good.
        """
        self.host = host
        self._admit = admit
        configuration = fabric.Config(overrides={"load_ssh_configs": False}, ssh_config=paramiko.SSHConfig())
        self._connection = fabric.Connection(
            host,
            user=user,
            gateway=proxy_command or None,
            config=configuration,
            connect_timeout=_CONNECT_SECONDS,
            connect_kwargs={"key_filename": str(private_key), "allow_agent": False, "look_for_keys": False},
        )

    def connect(
        self,
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait until the instance lets us in.

        Raises:
            ToolError: it does not within `patience_seconds`.
            AwsError: nobody will ever let its key in.
        """
        deadline = clock() + patience_seconds
        while (failure := self._try_to_open()) is not None:
            if clock() > deadline:
                raise ToolError(
                    f"The instance at {self.host} did not let us in by SSH within {patience_seconds:.0f} s ({failure});"
                    f" {self._advice(failure)}."
                ) from failure
            wait(_POLL_SECONDS)

    def run(self, command: str) -> str:
        """Run a shell command and return what it printed.

        Raises:
            ToolError: it exited with another status than 0, or the connection broke.
        """
        result = self._run(command)
        if not result.ok:
            lines = (result.stderr + result.stdout).strip().splitlines() or ["it printed nothing"]
            raise ToolError(f"On the instance, `{command}` failed: {lines[-1]}")
        return str(result.stdout)

    def succeeds(self, command: str) -> bool:
        """Whether a shell command exits with status 0."""
        return bool(self._run(command).ok)

    def write(self, path: str, content: str) -> None:
        """Write a file; whole or not at all."""
        self._open_again()
        try:
            self._connection.put(io.StringIO(content), f"{path}.unfinished")
        except _BROKEN as error:
            raise ToolError(f"Writing {path} on the instance failed ({error}); try again.") from error
        self.run(f"mv {shlex.quote(path)}.unfinished {shlex.quote(path)}")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _try_to_open(self) -> Exception | None:
        refusal = self._admit() if self._admit else None
        if refusal is not None:
            return refusal
        try:
            self._connection.open()
        except _BROKEN as error:
            # Fabric closes only what it has opened: a login that was refused would stay, until sshd takes no more.
            self._connection.client.close()
            return error
        return None

    def _open_again(self) -> None:
        """Fabric would, too, but would not ask to be let in."""
        if self._connection.is_connected:
            return
        if (failure := self._try_to_open()) is not None:
            raise ToolError(f"The connection to the instance at {self.host} broke ({failure}); try again.") from failure

    def _advice(self, failure: Exception) -> str:
        if self._admit and isinstance(failure, paramiko.AuthenticationException):
            return "its image needs the package ec2-instance-connect, or set ssh_key in gpunodes.toml to key_pair"
        if isinstance(failure, AwsError):
            return "see whether it runs, and try again"
        return "look at its console output"

    def _run(self, command: str) -> Any:
        self._open_again()
        try:
            return self._connection.run(command, hide=True, warn=True, in_stream=False, timeout=_COMMAND_SECONDS)
        except (*_BROKEN, invoke.exceptions.CommandTimedOut, invoke.exceptions.ThreadException) as error:
            raise ToolError(f"The connection to the instance at {self.host} broke ({error}); try again.") from error
