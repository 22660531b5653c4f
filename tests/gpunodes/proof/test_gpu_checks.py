from __future__ import annotations

import pytest

from gpunodes.proof import gpu_checks
from gpunodes.proof.gpu_checks import Gpu, PromisedGpus
from tests.gpunodes.fakes import GIB, gpus

T4 = PromisedGpus("g4dn.12xlarge", 4, "T4", 16 * GIB)


@pytest.mark.parametrize(("seen", "passed"), [(4, True), (3, False), (5, False), (0, False)])
def test_as_many_gpus_as_the_type_has(seen: int, passed: bool) -> None:
    made = gpu_checks.gpus_are_there(gpus(seen), T4)

    assert made.passed is passed
    assert made.reason.startswith(f"{seen} of 4 GPUs of g4dn.12xlarge: ")
    assert made.evidence["promised"] == 4


def test_the_reason_why_there_is_none_is_said() -> None:
    made = gpu_checks.gpus_are_there([], T4, "libcuda.so.1 cannot be loaded")

    assert made.passed is False
    assert made.reason == "0 of 4 GPUs of g4dn.12xlarge: none (libcuda.so.1 cannot be loaded)"


@pytest.mark.parametrize(
    ("promised", "name"),
    [
        ("T4", "Tesla T4"),
        ("A10G", "NVIDIA A10G"),
        ("A100", "NVIDIA A100-SXM4-40GB"),
        ("H100", "NVIDIA H100 80GB HBM3"),
        ("RTX PRO Server 6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
    ],
)
def test_models_are_known_by_ec2s_and_the_drivers_name(promised: str, name: str) -> None:
    seen = [Gpu(0, "GPU-0", name, 15 * GIB, 15 * GIB)]

    made = gpu_checks.gpus_are_the_model(seen, PromisedGpus("any", 1, promised, 16 * GIB))

    assert made.passed is True
    assert made.reason == f"1 x {name} with 15.0 GiB of 16.0 GiB or more"


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (Gpu(2, "GPU-2", "NVIDIA T4G", 15 * GIB, 15 * GIB), "GPU 2 is NVIDIA T4G instead of T4"),
        (Gpu(2, "GPU-2", "Tesla T4", 8 * GIB, 8 * GIB), "GPU 2 has 8.0 GiB instead of 16.0 GiB"),
    ],
)
def test_another_model_and_lost_memory_are_named(seen: Gpu, complaint: str) -> None:
    made = gpu_checks.gpus_are_the_model([*gpus(2), seen], T4)

    assert made.passed is False
    assert made.reason == complaint


def test_no_gpu_is_not_the_model() -> None:
    made = gpu_checks.gpus_are_the_model([], T4)

    assert (made.passed, made.reason) == (False, "there is no GPU to look at")
