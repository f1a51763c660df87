from __future__ import annotations

import math
from pathlib import Path

import pytest

from nnscan.cli import wording
from nnscan.results.wording import configurations_have, rounded_text, spread, value_text


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (93784, "1 day, 2:03:04")]
)
def test_clock(seconds: float, said: str) -> None:
    assert wording.clock(seconds) == said


@pytest.mark.parametrize(("number", "said"), [(0, "0 trials"), (1, "1 trial"), (12345, "12,345 trials")])
def test_count(number: int, said: str) -> None:
    assert wording.count(number, "trial") == said


def test_shortest_is_relative_only_below_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert wording.shortest(tmp_path / "scans" / "a") == Path("scans/a")
    assert wording.shortest(Path("/elsewhere")) == Path("/elsewhere")


def test_a_single_value_has_no_spread() -> None:
    assert wording.mean_and_spread(0.5, 0.25) == "0.5000 ± 0.2500"
    assert wording.mean_and_spread(0.5, math.nan) == "0.5000"


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (0.776, 6.7e-5, "0.7760 ± 0.0001"),
        (0.776, 0.0, "0.7760 ± 0.0000"),
        (3e-5, 2e-5, "3.000e-05 ± 2.000e-05"),
        (0.5, 2e9, "0.5000 ± 2.0e+09"),
    ],
    ids=["small", "none", "small mean", "large"],
)
def test_a_spread_has_the_decimals_of_its_mean(mean: float, std: float, said: str) -> None:
    assert spread(mean, std) == said


@pytest.mark.parametrize(("count", "said"), [(1, "1 configuration has"), (2000, "2,000 configurations have")])
def test_sentences_about_configurations_begin(count: int, said: str) -> None:
    assert configurations_have(count) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.31622776601683794, "0.316228"), (0.1, "0.1"), (1.0, "1.0"), (10**12, "1000000000000"), ("sgd", "sgd")],
    ids=["long", "short", "whole", "integer", "text"],
)
def test_long_numbers_are_rounded(value: object, said: str) -> None:
    assert rounded_text(value) == said


def test_a_digest_is_told_by_its_beginning() -> None:
    assert value_text("sha256:" + "0123456789abcdef" * 4) == "sha256:0123456789abcdef"
    assert value_text("sha256:" + "0123456789abcdef" * 3) == "sha256:" + "0123456789abcdef" * 3
