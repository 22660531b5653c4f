"""Tasks of the offline cloud, for Invoke; `tasks.py` lists them."""

from __future__ import annotations

import shlex
import sys

from invoke import Collection, Context, task

from gpunodes import offline_target, report
from gpunodes.exit_codes import errors_as_exit_codes
from gpunodes.operation.progress import TerminalProgress


@task
def up(_context: Context) -> None:
    """Start the offline cloud of this machine."""
    with errors_as_exit_codes():
        report.print_parts(offline_target.up(TerminalProgress().say), [])


@task
def down(_context: Context) -> None:
    """Stop the offline cloud; nothing but its cache stays."""
    with errors_as_exit_codes():
        was_up = offline_target.down()
        report.console().print("  the offline cloud is down" if was_up else "  the offline cloud was not up")


@task
def status(_context: Context) -> None:
    """Show the parts of the offline cloud and its instances."""
    with errors_as_exit_codes():
        report.print_parts(*offline_target.status())


@task
def env(_context: Context) -> None:
    """Print shell exports that lead any AWS client to the offline cloud: eval "$(invoke offline.env)"."""
    with errors_as_exit_codes():
        variables = offline_target.environment()
        sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


@task
def new_base(_context: Context) -> None:
    """Let a newer base image appear, as its publisher would; `refresh-ami` bakes from it when its policy allows."""
    with errors_as_exit_codes():
        report.console().print(f"  the base image is now {offline_target.publish_base()}")


def add_to(namespace: Collection) -> None:
    """Let a collection list these tasks."""
    namespace.add_collection(Collection("offline", up, down, status, env, new_base))
