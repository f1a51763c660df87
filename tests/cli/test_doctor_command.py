from __future__ import annotations

from pathlib import Path

import pytest
from commanding import Command

from nnscan.doctor import Check, Verdict

CHECKS = [Check("cuda", Verdict.OK, "no device"), Check("disk", Verdict.WARN, "1.0 GB free", "Make room.")]


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.OK, 0), (Verdict.WARN, 0), (Verdict.FAIL, 1)])
def test_a_failed_check_decides_the_exit_code(
    nnscan: Command, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, code: int
) -> None:
    checks = [Check("ray", verdict, "found"), *CHECKS]
    monkeypatch.setattr("nnscan.doctor.examine", lambda *arguments, **options: iter(checks))
    assert nnscan("doctor").exit_code == code


def test_a_line_a_check_and_below_it_what_to_do(nnscan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnscan.doctor.examine", lambda *arguments, **options: iter(CHECKS))
    assert nnscan("doctor").stdout == (
        "ok    cuda           no device\n"
        "warn  disk           1.0 GB free\n"
        "                     Make room.\n"
    )  # fmt: skip


def test_options_reach_the_checks(nnscan: Command, empty: Path) -> None:
    (empty / "data" / "cats" / "train" / "tabby").mkdir(parents=True)
    result = nnscan("doctor", "--scan-dir", empty / "mine", "--data-root", empty / "data")
    assert "cats/ (image_folder)" in result.stdout
    assert f"flock work in {empty}" in result.stdout
