"""The key that signs the stand-in packages: an own GnuPG home, and no agent process that stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localaws.commands import run

_USER_ID = "localaws downloads (stand-in, not AWS)"


class SigningKey:
    """A key pair in a directory of its own.

    Args:
        home: GnuPG home; made with the key on first use.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def ensure(self) -> str:
        """Make the key unless it exists, and return its fingerprint: 40 hexadecimal digits.

        Raises:
            CommandFailed: gpg is missing or failed.
        """
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (found := self._fingerprint()):
            with self._agent():
                self._gpg("--passphrase", "", "--quick-generate-key", _USER_ID, "rsa3072", "sign", "never")
            found = self._fingerprint()
        return found

    def sign(self, file: Path) -> Path:
        """Write a detached binary signature beside `file` and return its path, as AWS names it: `<file>.sig`."""
        signature = file.with_name(f"{file.name}.sig")
        with self._agent():
            self._gpg("--yes", "--output", str(signature), "--detach-sign", str(file))
        return signature

    def export(self) -> str:
        """The public key, ASCII-armored as AWS serves its own."""
        return self._gpg("--armor", "--export")

    def _fingerprint(self) -> str:
        lines = self._gpg("--with-colons", "--list-keys").splitlines()
        return next((line.split(":")[9] for line in lines if line.startswith("fpr:")), "")

    @contextmanager
    def _agent(self) -> Iterator[None]:
        """Secret keys are used through gpg-agent, which gpg starts and would leave running."""
        try:
            yield
        finally:
            run(["gpgconf", "--homedir", str(self._home), "--kill", "all"])

    def _gpg(self, *arguments: str) -> str:
        return run(["gpg", "--batch", "--quiet", "--homedir", str(self._home), *arguments])
