"""The commands about a scan that runs elsewhere, on a real Slurm."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pandas
import pytest
from commanding import Command

from nnscan.results.folder import ScanFolder
from nnscan.results.store import running

pytestmark = pytest.mark.usefixtures("slurm")

SCAN = """
name = "elsewhere"
[training]
function = "elsewhere_function:train"
metrics = ["val_loss"]
epochs = 90
[[grid]]
family = "Quick"
training.arguments.seconds = [0.0, 0.001]
[[grid]]
family = "Slow"
training.arguments.seconds = [1.0, 1.1, 1.2, 1.3]
"""
FUNCTION = """
import time

def train(seconds, epochs):
    for epoch in range(epochs):
        print(f"epoch {epoch} of {seconds}", flush=True)
        time.sleep(seconds)
        yield {"val_loss": seconds}
"""
PROFILE = "time = 5\nmemory_gb_per_process = 0.4\ntrials_per_bundle = 2\nbundles_at_once = 1\nsbatch = {nice = 1}\n"


@pytest.fixture(autouse=True)
def ask_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnscan.launchers.slurm.queue.POLL_SECONDS", 1.0)


@pytest.fixture
def place(empty: Path) -> Path:
    """A working folder with a scan of two quick trials and four of a minute and more, for bundles of two."""
    (empty / "elsewhere.toml").write_text(SCAN)
    (empty / "elsewhere_function.py").write_text(FUNCTION)
    (empty / "small.toml").write_text(PROFILE)
    return empty


def until_slow_runs(nnscan: Command) -> None:
    """Wait until a trial of the family Slow is in training."""
    deadline = time.monotonic() + 90
    while not any(one.families == ("Slow",) for one in running(ScanFolder(Path("scans/elsewhere")))):
        words = "\n".join(path.read_text() for path in Path("scans").glob("*/launches/*/submitit/*.out"))
        assert time.monotonic() < deadline, f"{nnscan('status').stdout}\n{words}"
        time.sleep(0.5)


def launch(nnscan: Command, *options: str):  # typer's own type
    return nnscan("launch", "elsewhere.toml", "--cluster", "slurm", "--profile", "small.toml", *options)


def test_a_scan_is_submitted_watched_and_read(nnscan: Command, place: Path) -> None:
    submitted = launch(nnscan, "--grid", "Slow:training.arguments.seconds=0.002")
    assert submitted.exit_code == 0, submitted.output
    assert re.match(r"Submitted array \d+: 2 bundles of about 2 trials, 0:05:00\n", submitted.stdout)
    assert "\n  nnscan watch elsewhere  " in submitted.stdout
    assert "Slurm: " in nnscan("status").stdout

    watched = nnscan("watch")
    assert watched.stdout.startswith("3 trials: 3 completed; nothing of scans/elsewhere runs or is to start\n")
    assert "Slurm: " in watched.stderr
    trials = pandas.read_parquet("scans/elsewhere/trials").set_index("training.arguments.seconds")
    said = nnscan("logs", trials.loc[0.002, "trial"][:12])
    printed = said.stdout.splitlines()
    assert [line for line in printed if line.endswith(" of 0.002")] == [f"epoch {n} of 0.002" for n in range(90)]
    assert f"Trial {trials.loc[0.002, 'trial'][:8]}: completed, on {trials.loc[0.002, 'host']} (process " in said.stderr
    assert nnscan("logs").stdout.count("bundle 2") == 2


def test_what_is_cancelled_ends_and_the_next_launch_takes_it_up(nnscan: Command, place: Path) -> None:
    assert launch(nnscan).exit_code == 0
    until_slow_runs(nnscan)
    said = nnscan("cancel", "--family", "Slow").stdout
    assert said.startswith("Cancelled family Slow of scans/elsewhere: workers pass over them until the next launch.\n")
    over = nnscan("watch").stdout  # the one in training ended at its next epoch, and those of Quick were trained
    assert over.startswith("6 trials: 2 completed, 4 pending; nothing of scans/elsewhere runs or is to start\n")
    assert "Cancelled until the next launch: family Slow\n" in over

    assert "Submitted array" in launch(nnscan).stdout
    until_slow_runs(nnscan)
    said = nnscan("cancel").stdout
    assert re.search(r"Slurm was told to end 1 job with 2 bundles: \d+\n", said)
    over = nnscan("watch").stdout
    assert over.startswith("6 trials: 2 completed, 4 pending; ")
    assert "Go on with: nnscan launch scans/elsewhere/scan.toml --cluster slurm --profile " in over
