"""Terraform: which one is installed, where its providers come from, and one stack's life."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunodes import commands
from gpunodes.errors import ToolError
from gpunodes.proof import terraform_failure
from gpunodes.proof.terraform_output import TerraformOutput, readable
from gpunodes.tool_versions import installed_version

OLDEST = (1, 7, 0)
_MIRROR_PARENTS = (
    Path("~/.terraform.d/plugins"),
    Path("/usr/local/share/terraform/plugins"),
    Path("/usr/share/terraform/plugins"),
)
_LIMIT_SECONDS = 900.0  # Terraform itself gives an instance ten minutes to come up; a network that is silent, forever
_LOCK_SECONDS = 60  # a Terraform whose starter was killed ends at the next line that it prints, every 10 s
_REGISTRY = "registry.terraform.io"


def version() -> tuple[int, ...]:
    """The installed Terraform's version.

    Raises:
        PreflightError: there is none, or it is older than 1.7.
    """
    return installed_version("terraform", OLDEST)


def find_mirror(parents: Iterable[Path] = _MIRROR_PARENTS, opt: Path = Path("/opt")) -> Path | None:
    """A folder with providers as a filesystem mirror, or None: then they come from the registry."""
    folders = [parent.expanduser() for parent in parents]
    with suppress(OSError):  # absent, or not for us to read
        folders += sorted(opt.iterdir())
    return next((folder for folder in folders if _has_providers(folder)), None)


def _has_providers(folder: Path) -> bool:
    try:
        return (folder / _REGISTRY).is_dir()
    except OSError:  # a folder that is not for us to look into holds nothing for us
        return False


def cli_environment(
    folder: Path,
    environment: Mapping[str, str] = os.environ,
    mirror: Callable[[], Path | None] = find_mirror,
    users_own: Path = Path("~/.terraformrc"),
) -> dict[str, str]:
    """Variables with which Terraform finds its providers and asks nothing.

    A CLI configuration of the user's own is left alone; one that is named but does not exist would be a warning on each
    run, so it is replaced by ours.

    Args:
        folder: gets our CLI configuration.
        environment: the process's.
        mirror: looks for a filesystem mirror.
        users_own: the CLI configuration that Terraform reads where the environment names none.
    """
    variables = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1", "NO_COLOR": "1"}
    named = environment.get("TF_CLI_CONFIG_FILE", "")
    if (Path(named) if named else users_own.expanduser()).exists():
        return variables
    found = mirror()
    plugin_cache = folder / "plugin-cache"
    plugin_cache.mkdir(parents=True, exist_ok=True)
    configuration = folder / "terraform.rc"
    # Whole or not at all: proofs in parallel write the same file, and Terraform may read it meanwhile.
    unfinished = folder / f"terraform.rc.{os.getpid()}"
    unfinished.write_text(_cli_configuration(found, plugin_cache))
    unfinished.replace(configuration)
    return {**variables, "TF_CLI_CONFIG_FILE": str(configuration)}


def _cli_configuration(mirror: Path | None, plugin_cache: Path) -> str:
    if mirror is None:
        return f'plugin_cache_dir = "{plugin_cache}"\n'
    source = f"{_REGISTRY}/*/*"
    return (
        "provider_installation {\n"
        f'  filesystem_mirror {{\n    path    = "{mirror}"\n    include = ["{source}"]\n  }}\n'
        f'  direct {{\n    exclude = ["{source}"]\n  }}\n'
        "}\n"
    )


@contextmanager
def _alone(environment: Mapping[str, str]) -> Iterator[None]:
    """One `terraform init` at a time: the plugin cache cannot be filled by two at once (Terraform's documentation)."""
    configuration = environment.get("TF_CLI_CONFIG_FILE")
    if configuration is None:  # the user's own configuration: whether it has a cache is not known here
        yield
        return
    with Path(configuration).with_name("init.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Stack:
    """One stack with a state of its own.

    Attributes:
        source: folder of the stack's files.
        folder: of the run; gets the state, the variables and Terraform's data.
        environment: of the target, plus `cli_environment`.
        on_step: told what Terraform is doing.
    """

    source: Path
    folder: Path
    environment: Mapping[str, str]
    on_step: Callable[[str], None]

    @property
    def state(self) -> Path:
        """The state file; absent before the first apply."""
        return self.folder / "terraform.tfstate"

    @property
    def log(self) -> Path:
        """All that Terraform printed."""
        return self.folder / "terraform.log"

    def apply(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Make the stack; returns its outputs.

        Raises:
            ToolError: Terraform failed; what it made is in the state, so `destroy` finds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._variables_file.write_text(json.dumps(dict(variables), indent=2))
        with _alone(self.environment):
            self._terraform("init", "-lockfile=readonly", f"-backend-config=path={self.state}")
        self._terraform("apply", "-json", "-auto-approve", f"-var-file={self._variables_file}")
        state = json.loads(self.state.read_text())
        return {name: output["value"] for name, output in state["outputs"].items()}

    def destroy(self) -> None:
        """Destroy all that the state holds; nothing to do where nothing was applied.

        Nothing is looked up before: an image that vanished meanwhile must not keep its instance.

        Raises:
            ToolError: Terraform failed, or the state cannot be read.
        """
        if not self.state.exists():
            return
        # The state says what was made. To read all of it again takes seconds, and fails where the image is gone.
        self._terraform(
            "destroy",
            "-json",
            "-auto-approve",
            "-refresh=false",
            f"-lock-timeout={_LOCK_SECONDS}s",
            f"-var-file={self._variables_file}",
        )

    def forget(self) -> None:
        """Put the state aside once nothing that it names exists any more."""
        if self.state.exists():
            self.state.replace(self.state.with_suffix(".tfstate.forgotten"))

    @property
    def _variables_file(self) -> Path:
        return self.folder / "run.tfvars.json"

    def _terraform(self, command: str, *arguments: str) -> None:
        output = TerraformOutput(self.on_step)
        status = commands.follow(
            ["terraform", f"-chdir={self.source}", command, "-input=false", "-no-color", *arguments],
            log=self.log,
            env={**self.environment, "TF_DATA_DIR": str(self.folder / ".terraform")},
            on_line=output.take,
            as_logged=readable,
            limit_seconds=_LIMIT_SECONDS,
        )
        if status != 0:
            raise ToolError(terraform_failure.sentence(command, status, output.errors, str(self.log)))
