"""What can go wrong in the simulated driver.

SimgpuError             base; one sentence that says what to do, and an exit code
├── UnknownGpuError     there is no GPU with that index in that state directory (exit code 2)
├── UnknownValueError   a value, function or code that no GPU has (exit code 2)
├── StateError          the state directory cannot be read or written (exit code 3)
└── BuildError          the libraries could not be compiled (exit code 3)
"""

from __future__ import annotations


class SimgpuError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        exit_code: what a command line program should exit with.
    """

    exit_code = 3


class UnknownGpuError(SimgpuError):
    """The machine has no GPU with that index."""

    exit_code = 2


class UnknownValueError(SimgpuError):
    """A value, NVML function or return code that does not exist or is out of range."""

    exit_code = 2


class StateError(SimgpuError):
    """The state directory cannot be read or written."""


class BuildError(SimgpuError):
    """The libraries could not be compiled; the message ends with what the compiler said."""
