from __future__ import annotations

from pathlib import Path

from nnscan.pace import Pace
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.trial import Trial


def trial(*families: str) -> Trial:
    return Trial(key="a" * 32, configuration="c" * 32, settings={}, families=families)


def earlier(folder: ScanFolder, family: str, seconds: dict[str, float]) -> None:
    """Write trials of a family that took so long, by status."""
    with store.writing(folder, f"l-{family}", {}) as writer:
        for number, (status, length) in enumerate(seconds.items()):
            row = {"trial": f"{family}{number}", "attempt": 1}
            writer.start({**row, "settings": {}, "families": [family]})
            writer.end({**row, "status": status, "metrics": {}, "seconds": length})


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    assert Pace(ScanFolder(tmp_path)).seconds(trial("A")) == 0.0


def test_a_trial_takes_what_the_longest_of_its_family_took_here(tmp_path: Path) -> None:
    pace = Pace(ScanFolder(tmp_path))
    for family, seconds in (("A", 2.0), ("A", 5.0), ("A", 3.0), ("B", 7.0)):
        pace.ended(trial(family), seconds)
    assert [pace.seconds(trial(*families)) for families in ("A", "B", "AB", "C")] == [5.0, 7.0, 7.0, 0.0]


def test_before_that_it_takes_what_completed_ones_took_on_average(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    store.widen(folder, store.Schemas.of({}))
    earlier(folder, "A", {"completed": 2.0, "failed": 90.0})
    earlier(folder, "B", {"diverged": 1.0})
    with store.writing(folder, "l-9", {}) as writer:
        row = {"trial": "more", "attempt": 1}
        writer.start({**row, "settings": {}, "families": ["A"]})
        writer.end({**row, "status": "completed", "metrics": {}, "seconds": 4.0})
    pace = Pace(folder)
    assert [pace.seconds(trial(family)) for family in "AB"] == [3.0, 0.0]
    pace.ended(trial("A"), 1.0)
    assert pace.seconds(trial("A")) == 1.0
