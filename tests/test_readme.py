from __future__ import annotations

import re
from pathlib import Path

from nnscan.grid import configurations
from nnscan.scan import load, read

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_scan_file_shown_is_the_digits_scan() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    asked = [[(one.family, one.key) for one in configurations(scan)] for scan in (read(shown, "README.md"), load())]
    assert asked[0] == asked[1]


def test_it_fits_two_screens() -> None:
    assert len(README.splitlines()) <= 120
