"""Everything that can be known before a bake costs money; `invoke doctor` asks it alone and changes nothing."""

from gpunodes.finding import FAILED, NOT_ANSWERED, PASSED, Finding
from gpunodes.preflight.checks import checks
from gpunodes.preflight.diagnosis import Diagnosis, doctor, require

__all__ = ["FAILED", "NOT_ANSWERED", "PASSED", "Diagnosis", "Finding", "checks", "doctor", "require"]
