"""Every error that gpumon raises on purpose.

::

    GpumonError                     exit 1
    ├── SettingsError               exit 2  a setting or the table of metrics is wrong
    ├── DriverUnavailableError      exit 3  no NVIDIA driver or library answers (yet)
    │   └── DriverMismatchError     exit 4  the library in memory is not the one of the loaded driver: start anew
    └── DeliveryError               exit 5  a sink could not deliver; the same datums may be sent again
        ├── IdentityUnavailableError  exit 5  the instance metadata service does not say who this host is (yet)
        └── RefusedError            exit 5  the sink will never take these datums; sending them again is useless

Each message is one sentence that says what to do. The exit code is what ``gpumon`` ends with when the error reaches
`main`.
"""

from __future__ import annotations


class GpumonError(Exception):
    """Base of every error that gpumon raises on purpose."""

    exit_code = 1


class SettingsError(GpumonError):
    """A setting or the table of metrics is wrong; the message names the key."""

    exit_code = 2


class DriverUnavailableError(GpumonError):
    """No NVIDIA driver or library answers; trying again later is right."""

    exit_code = 3


class DriverMismatchError(DriverUnavailableError):
    """The library in memory does not belong to the loaded driver; only a new process loads another one."""

    exit_code = 4


class DeliveryError(GpumonError):
    """A sink could not deliver; the same datums may be sent again later."""

    exit_code = 5


class IdentityUnavailableError(DeliveryError):
    """The instance metadata service does not say who this host is."""


class RefusedError(DeliveryError):
    """The sink will never take these datums; sending them again is useless."""
