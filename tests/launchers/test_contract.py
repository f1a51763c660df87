"""What every launcher keeps: one road, whose tables do not tell where it led through."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ray_node import START_SECONDS, free_address, ray_node
from safetensors.torch import load_file
from scans import DIGITS, TESTS, differences, function_scan, rows_of, run

import nnscan
from nnscan.failure import FAILURES_IN_A_ROW
from nnscan.launch_options import LaunchOptions, Outcome
from nnscan.launchers.session import in_session
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import journals
from nnscan.retraining import RetrainOptions, retrain_best
from nnscan.scan import Scan, read

WORKERS = 2


@dataclass(frozen=True)
class Place:
    """A launcher, and what is asked of it."""

    options: dict[str, Any]
    session: int = 0
    """Of the cluster that runs, whose daemons stay."""

    @property
    def name(self) -> str:
        """That of the launcher."""
        workers = self.options.get("workers", 1)
        return "forked" if self.options["cluster"] == "inline" and workers > 1 else str(self.options["cluster"])

    @property
    def fewest(self) -> int:
        """Workers to ask for where each has several processes: one alone would not be forked."""
        return WORKERS if self.name == "forked" else 1

    def launch(self, scan: Scan, path: Path, **options: Any) -> Outcome:
        return run(scan, path, **{**self.options, **options})

    def processes(self) -> list[psutil.Process]:
        """Return the processes that a launch has begun: of a cluster that runs, its workers alone."""
        sessions = {os.getsid(child.pid) for child in psutil.Process().children()} - {os.getsid(0), self.session}
        begun = [process for session in sessions for process in in_session(session)]
        joined = in_session(self.session) if self.session else ()
        return begun + [one for one in joined if "Trainable" in title(one) or "ray::Rank" in title(one)]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@contextmanager
def ray_cluster() -> Iterator[Place]:
    """Start a Ray of one node, and give the place that joins it."""
    address = free_address()
    with ray_node(address, WORKERS) as session:
        yield Place({"cluster": "ray", "address": address}, session)


@pytest.fixture(scope="module", params=["inline", "forked", "local", "ray", "slurm"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    root = str(Path(nnscan.__file__).parents[1])  # workers find nnscan where it is not installed
    with environment(PYTHONPATH=root, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16)):
        if request.param == "ray":
            with ray_cluster() as joined:
                yield joined
        elif request.param == "slurm":
            request.getfixturevalue("slurm")
            yield Place({"cluster": "slurm", "workers": WORKERS, "wait": True})
        elif request.param in ("forked", "local"):
            yield Place({"cluster": {"forked": "inline"}.get(request.param, request.param), "workers": WORKERS})
        else:
            yield Place({"cluster": "inline"})


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)


@dataclass
class Undisturbed:
    """What this process makes of a scan, once for all launchers."""

    path: Path
    found: dict[str, Outcome] = field(default_factory=dict)

    def of(self, scan: Scan) -> Outcome:
        if scan.name not in self.found:
            self.found[scan.name] = run(scan, self.path)
        return self.found[scan.name]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


def mixed() -> Scan:
    """A family of functions that learn, one of those that throw, one of those that diverge, at rates above 1."""
    grids = (
        f'[[grid]]\nfamily = "{name}"\ntraining.function = "functions:{name}"\ntraining.arguments.rate = {rates}\n'
        'training.metrics = ["val_loss"]\ntraining.epochs = 2\n'
        for name, rates in (("learn", [0.5, 2.0]), ("throw", [0.5, 2.0, 3.0]), ("diverge", [0.5, 2.0]))
    )
    rest = '[validation]\nholdout = 0.2\n[selection]\nmetric = "val_loss"\n'
    return read('name = "mixed"\n' + rest + "".join(grids))


def test_every_trial_ends_in_one_row_with_the_bits_of_any_other_launcher(
    place: Place, undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = read(DIGITS)
    expected = undisturbed.of(scan)
    outcome = place.launch(scan, tmp_path)
    assert (outcome.exit_code, outcome.error, outcome.progress.completed) == (0, "", 6)
    assert differences(outcome.folder, expected.folder) == []
    assert len(store.read_trials(outcome.folder)) == 6
    assert journals(outcome.folder) == []
    # Worker processes, each of which has a log of its own, live from bundle to bundle. Tune keeps no more than one that
    # is idle: of two that end a bundle at the same moment one is started anew.
    logs = [path for path in outcome.folder.logs.glob("*.log") if path.name not in ("ray.log", "template.log")]
    assert len(logs) <= {"inline": 0, "forked": WORKERS}.get(place.name, WORKERS + 1)
    bundles = {bundle for (bundle,) in rows_of(outcome, "bundle")}
    # Perceptrons come in fours where they can, but no more than a fair share: 3, 2 and 1. On Slurm there are as many as
    # run at once.
    assert len(bundles) == {"inline": 1, "slurm": WORKERS}.get(place.name, 3)
    assert not (outcome.folder.path / ".ray").exists()

    for starts in ("launcher_for", "submitting.submit"):
        monkeypatch.setattr(f"nnscan.launching.{starts}", lambda *_: pytest.fail("it started something"))
    again = place.launch(scan, tmp_path)
    assert (again.exit_code, again.launched) == (0, 0)


@pytest.mark.parametrize("place", ["forked", "local", "ray", "slurm"], indirect=True)
def test_a_retraining_leaves_the_model_that_one_in_this_process_leaves(place: Place, tmp_path: Path) -> None:
    folders = {name: run(read(DIGITS), tmp_path / name).folder for name in ("inline", place.name)}
    options = {"inline": None, place.name: LaunchOptions(**place.options)}
    models = [retrain_best(folders[name], RetrainOptions(epochs=2), options[name]).models for name in folders]
    assert sorted(models[0]) == sorted(models[1]) == ["Narrow", "Wide"]
    for family in models[0]:
        weights = [(found[family] / "model.safetensors").read_bytes() for found in models]
        assert weights[0] == weights[1]
    assert differences(*folders.values()) == []


def test_what_throws_or_diverges_is_a_row_and_the_others_go_on(
    place: Place, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    scan = mixed()
    expected = undisturbed.of(scan)
    first = place.launch(scan, tmp_path, limit=5)
    assert (first.launched, first.progress.pending, first.exit_code) == (5, 2, 1)
    outcome = place.launch(scan, tmp_path, retry_failed=True)
    assert (outcome.launched, outcome.exit_code, outcome.error, outcome.stopped) == (4, 1, "", "")
    columns = ("family", "training.arguments.rate", "status", "failure", "error", "score")
    assert rows_of(outcome, *columns) == [
        ("diverge", 0.5, "completed", "", "", 0.25),
        ("diverge", 2.0, "diverged", "", "", 2.0),
        ("learn", 0.5, "completed", "", "", 0.125),
        ("learn", 2.0, "completed", "", "", 0.5),
        ("throw", 0.5, "completed", "", "", 0.25),
        ("throw", 2.0, "failed", "config", "UserError: no such rate", 2.0),
        ("throw", 3.0, "failed", "config", "UserError: no such rate", 3.0),
    ]
    assert differences(outcome.folder, expected.folder) == []
    assert len(outcome.failures) == 2


def test_equal_failures_in_a_row_stop_the_scan(place: Place, tmp_path: Path) -> None:
    rates = [float(rate) for rate in range(2, 4 + 2 * FAILURES_IN_A_ROW)]
    scan = function_scan("throw", rates, folds=1)
    outcome = place.launch(scan, tmp_path)
    assert outcome.exit_code == 1
    assert "5 trials in a row failed alike: UserError" in outcome.stopped
    # Each of two workers counts for itself and ends the trial it is in, which may be its own fifth in a row.
    assert FAILURES_IN_A_ROW <= outcome.progress.failed <= 2 * FAILURES_IN_A_ROW < outcome.progress.total


def interrupt_once(reached: Callable[[], bool]) -> threading.Thread:
    """Press Ctrl-C when something is so."""

    def press() -> None:
        deadline = time.monotonic() + START_SECONDS
        while not reached() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


def ended(folder: ScanFolder) -> int:
    """Return how many trials have an end row, in journals and in parts."""
    return len(store.read_trials(folder, ["trial"])) if folder.schema.exists() else 0


def test_ctrl_c_keeps_what_finished_and_the_next_launch_gives_what_an_undisturbed_one_gives(
    place: Place, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    scan = function_scan("sleep", [0.5, 1.0, 2.0], seconds=0.3, folder=str(undisturbed.path))
    expected = undisturbed.of(scan)
    folder = ScanFolder(tmp_path / "scans" / scan.name)
    seen: list[psutil.Process] = []
    names: set[str] = set()

    def under_way() -> bool:
        seen.extend(place.processes())
        names.update(map(title, seen[-20:]))
        return ended(folder) >= 2

    if place.name == "slurm":
        pytest.skip("on Slurm Ctrl-C ends the waiting alone: tests/launchers/slurm/test_launches.py")
    press = interrupt_once(under_way)
    outcome = place.launch(scan, tmp_path)
    pressed = time.monotonic()
    press.join()
    assert (outcome.exit_code, outcome.interrupted) == (130, True)
    assert 2 <= outcome.progress.completed < 6
    assert journals(folder) == []
    left = psutil.wait_procs(seen, timeout=max(0.0, 5.0 - (time.monotonic() - pressed)))[1]
    assert left == []
    workers = {"inline": "none", "forked": "launchers.forked"}.get(place.name, "Trainable")
    assert any(workers in name for name in names) == (place.name != "inline")
    again = place.launch(scan, tmp_path)
    assert (again.exit_code, again.launched) == (0, 6 - outcome.progress.completed)
    assert differences(folder, expected.folder) == []
    assert {attempt for (attempt,) in rows_of(again, "attempt")} == {1}


@pytest.mark.parametrize("place", ["forked", "local"], indirect=True)
@pytest.mark.parametrize("by", ["SIGKILL", "SIGTERM"])  # the second is how Ray ends the workers of a driver that goes
def test_a_worker_that_dies_is_replaced_and_its_trial_tried_three_times(place: Place, tmp_path: Path, by: str) -> None:
    deaths = {"Once": 1, "Thrice": 3}
    for name in deaths:
        (tmp_path / name).mkdir()
    grids = (
        f'[[grid]]\nfamily = "{name}"\ntraining.arguments.deaths = {count}\n'
        f'training.arguments.folder = "{tmp_path / name}"\ntraining.arguments.rate = [0.5, 2.0]\n'
        f'training.arguments.by = "{by}"\n'
        for name, count in deaths.items()
    )
    training = '[training]\nfunction = "functions:die"\nmetrics = ["val_loss"]\nepochs = 2\n'
    scan = read('name = "die"\n[validation]\nfolds = 2\n' + training + "".join(grids))
    outcome = place.launch(scan, tmp_path)
    assert (outcome.exit_code, outcome.error, outcome.progress.completed, outcome.progress.failed) == (1, "", 7, 1)
    rows = rows_of(outcome, "family", "training.arguments.rate", "fold", "status", "failure", "attempt")
    assert [row for row in rows if row[-1] > 1] == [
        ("Once", 2.0, 1, "completed", "", 2),
        ("Thrice", 2.0, 1, "failed", "lost", 3),
    ]
    assert place.launch(scan, tmp_path).launched == 0
    assert run(scan, tmp_path, retry_failed=True).exit_code == 0


@pytest.mark.parametrize("place", ["ray"], indirect=True)
def test_gpus_that_a_cluster_has_not_are_told(place: Place, tmp_path: Path) -> None:
    scan = read(function_scan("learn", [0.5]).toml().replace("gpus_per_trial = 0.0", "gpus_per_trial = 1.0"))
    outcome = place.launch(scan, tmp_path)
    assert outcome.exit_code == 1
    assert f"a trial needs 1 CPU and 1 GPU; the largest that a node has is {WORKERS} CPU" in outcome.error


def on_processes(scan: str, processes: int) -> Scan:
    """Return a scan whose trials are trained by several processes each."""
    return read(scan + f"\n[resources]\nprocesses_per_trial = {processes}\n")


def troubled(folder: Path) -> Scan:
    """Networks: one whose rank 1 dies, once; one whose rank 1 throws; one that throws on all; one without trouble."""
    troubles = {
        "Dies": f'trouble = "kill", rank = 1, once = "{folder}/died"',
        "One": 'trouble = "throw", rank = 1',
        "All": 'trouble = "throw"',
        "None": 'trouble = "none"',
    }
    grids = (
        f'[[grid]]\nfamily = "{family}"\nmodel.name = "ranked:troubled"\nmodel.arguments = {{ {arguments} }}\n'
        'optimizer.name = "sgd"\n'
        for family, arguments in troubles.items()
    )
    rest = 'name = "troubled"\ndata.name = "digits"\ntraining = { epochs = 2, batch_size = 512 }\n'
    return on_processes(rest + "".join(grids), 2)


class TestSeveralProcesses:
    """Trials that two processes train each."""

    def test_they_give_what_one_gives_and_one_of_them_writes(
        self, place: Place, undisturbed: Undisturbed, tmp_path: Path
    ) -> None:
        alone = undisturbed.of(read(DIGITS))
        outcome = place.launch(on_processes(DIGITS, 2), tmp_path, workers=place.fewest)
        assert (outcome.exit_code, outcome.error, outcome.progress.completed) == (0, "", 6)
        assert set(rows_of(outcome, "processes", "threads", "attempt")) == {(2, 1, 1)}
        for columns in (("trial", "epoch", "val_loss"), ("trial", "epoch", "val_accuracy")):
            assert of_epochs(outcome, columns) == pytest.approx(of_epochs(alone, columns), abs=1e-5)
        writers = rows_of(outcome, "bundle", "writer")
        assert len(set(writers)) == len({bundle for bundle, _ in writers})
        assert len(store.read_trials(outcome.folder)) == 6
        assert journals(outcome.folder) == []

    def test_a_retraining_leaves_nearly_the_model_that_one_leaves(self, place: Place, tmp_path: Path) -> None:
        folders = {1: run(read(DIGITS), tmp_path / "1").folder}
        folders[2] = place.launch(on_processes(DIGITS, 2), tmp_path / "2", workers=place.fewest).folder
        options = {1: None, 2: LaunchOptions(**{**place.options, "workers": place.fewest})}
        models = [retrain_best(folders[count], RetrainOptions(epochs=2), options[count]).models for count in folders]
        assert sorted(models[0]) == sorted(models[1]) == ["Narrow", "Wide"]
        for family in models[0]:
            one, two = (load_file(found[family] / "model.safetensors") for found in models)
            assert one.keys() == two.keys()
            for name, weights in one.items():
                torch.testing.assert_close(two[name], weights, atol=1e-4, rtol=0)

    def test_a_rank_that_dies_or_throws_costs_its_trial_alone(self, place: Place, tmp_path: Path) -> None:
        outcome = place.launch(troubled(tmp_path), tmp_path, workers=place.fewest)
        assert (outcome.exit_code, outcome.error) == (1, "")
        assert rows_of(outcome, "family", "status", "failure", "error", "attempt") == [
            ("All", "failed", "config", "UserError: trouble on -1", 1),
            ("Dies", "completed", "", "", 2),
            ("None", "completed", "", "", 1),
            ("One", "failed", "config", "rank 1 of 2: UserError: trouble on 1", 1),
        ]
        assert journals(outcome.folder) == []
        assert psutil.wait_procs(place.processes(), timeout=5)[1] == []


def of_epochs(outcome: Outcome, columns: tuple[str, str, str]) -> dict[tuple[str, int], float]:
    """Return a metric of all epochs, by trial and epoch."""
    rows = store.read_epochs(outcome.folder, columns=columns).to_pylist()
    return {(row[columns[0]], row[columns[1]]): row[columns[2]] for row in rows}
