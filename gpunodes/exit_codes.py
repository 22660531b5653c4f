"""What a person sees of an error: one sentence on standard error and the right exit code, whatever went wrong."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from gpunodes.errors import GpunodesError
from gpunodes.lasting_stderr import lasting_stderr


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """End the process with the error's exit code; a traceback only for a defect of ours.

    Raises:
        SystemExit: something went wrong; the sentence has been printed.
    """
    with lasting_stderr(), _ending():
        yield


@contextmanager
def _ending() -> Iterator[None]:
    try:
        yield
    except GpunodesError as error:
        raise _ended(error.exit_code, str(error)) from error
    except KeyboardInterrupt as error:
        raise _ended(130, "Stopped as asked; run `invoke destroy` if anything was begun.") from error
    except OSError as error:  # a file that may not be read, a disk that is full: nothing of ours to mend
        raise _ended(3, f"{error.filename or 'A file'}: {error.strerror or error}; mend that.") from error
    except Exception as error:  # exit code 1 means that a check failed, so a defect of ours must not look like one
        traceback.print_exc()
        raise _ended(3, "This is a defect of gpunodes; please report it with the lines above.") from error


def _ended(code: int, sentence: str) -> SystemExit:
    sys.stderr.write(f"error: {sentence}\n")
    return SystemExit(code)
