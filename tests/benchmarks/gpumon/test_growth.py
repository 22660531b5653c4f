from __future__ import annotations

import pytest

from benchmarks.gpumon.growth import above_the_line


def test_growth_along_a_line_is_nowhere_above_it() -> None:
    assert above_the_line({1: 3.0, 2: 4.0, 4: 6.0, 8: 10.0}) == pytest.approx([0, 0, 0, 0])


def test_a_value_above_the_line_is_told_as_a_share_of_it() -> None:
    assert max(above_the_line({1: 1.0, 2: 3.0, 3: 3.0})) == pytest.approx(0.5)
