from __future__ import annotations

import os
import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from scans import DIGITS, TESTS, differences, function_scan, rows_of, run

from nnscan import launch_folder, launching
from nnscan.errors import BusyError, DataError, ScanError, StoreError
from nnscan.failure import FAILURES_IN_A_ROW
from nnscan.identity import configuration_key
from nnscan.launch_options import LaunchOptions, Outcome
from nnscan.launching import launch
from nnscan.plan import Plan, expand
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer
from nnscan.results.lock import hold
from nnscan.results.progress import Progress
from nnscan.scan import Scan, load, read


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)


def counts(outcome: Outcome) -> dict[str, int]:
    names = ("completed", "diverged", "failed", "running", "pending")
    return {name: count for name in names if (count := getattr(outcome.progress, name))}


def notes(path: Path) -> list[str]:
    file = path / "notes"
    return file.read_text().splitlines() if file.exists() else []


def test_a_launch_trains_every_trial_once_and_the_next_has_nothing_to_do(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5, 2.0], folder=str(tmp_path))
    outcome = run(scan, tmp_path)
    assert (outcome.exit_code, outcome.launched, counts(outcome)) == (0, 4, {"completed": 4})
    assert sorted(notes(tmp_path)) == ["0.5 0", "0.5 1", "2.0 0", "2.0 1"]
    again = run(scan, tmp_path)
    assert (again.exit_code, again.launched, counts(again)) == (0, 0, {"completed": 4})
    assert len(notes(tmp_path)) == 4
    assert len(launch_folder.read_all(outcome.folder)) == 1


def test_the_scan_folder_holds_what_was_asked(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5])
    folder = run(scan, tmp_path).folder
    again = load(folder.scan_file)
    assert expand(again).table.equals(expand(scan).table)
    assert Plan.read(folder).table.equals(expand(scan).table)
    (asked,) = launch_folder.read_all(folder)
    assert (asked.metric, asked.code, asked.data_root, asked.cluster) == ("val_loss", str(TESTS), str(TESTS), "inline")
    assert asked.provenance["host"]


def test_more_values_more_folds_and_more_families_run_what_is_missing_alone(tmp_path: Path) -> None:
    run(function_scan("learn", [0.5], folder=str(tmp_path)), tmp_path)
    more = function_scan("learn", [0.5, 1.0], folder=str(tmp_path))
    assert run(more, tmp_path).launched == 2
    text = more.toml().replace("replicates = 1", "replicates = 2")
    assert run(read(text), tmp_path).launched == 4
    other = text + '[[grid]]\nfamily = "Other"\ntraining.arguments.rate = [0.5, 4.0]\n'
    outcome = run(read(other), tmp_path)
    assert outcome.launched == 4  # rate 0.5 counts in both families, and has run
    assert {family.name: family.completed for family in outcome.progress.families} == {"Own": 8, "Other": 8}


def test_trials_of_the_family_that_took_longest_go_first_once_that_is_known(tmp_path: Path) -> None:
    def asked(rates: list[float]) -> Scan:
        grids = (
            f'[[grid]]\nfamily = "{family}"\ntraining.arguments.rate = {rates}\n'
            f'training.arguments.seconds = {seconds}\ntraining.arguments.folder = ""\n'
            for family, seconds in (("Quick", 0.0), ("Slow", 0.2), ("Middle", 0.1))
        )
        training = '[training]\nfunction = "functions:sleep"\nmetrics = ["val_loss"]\nepochs = 1\n'
        return read('name = "s"\n' + training + "".join(grids))

    def dealt(outcome: Outcome) -> list[tuple[str, float]]:
        launch = launch_folder.read_all(outcome.folder)[-1]
        trials = launch_folder.read_trials(outcome.folder, launch.name, 0, outcome.launched)
        return [(trial.families[0], trial.settings["training"]["arguments"]["rate"]) for trial in trials]

    first = run(asked([1.0, 2.0]), tmp_path)
    assert dealt(first) == [(family, rate) for family in ("Quick", "Slow", "Middle") for rate in (1.0, 2.0)]
    second = run(asked([1.0, 2.0, 3.0, 4.0]), tmp_path)
    assert dealt(second) == [(family, rate) for family in ("Slow", "Middle", "Quick") for rate in (3.0, 4.0)]


def test_points_that_left_the_grid_stay_in_the_store_and_out_of_the_counts(tmp_path: Path) -> None:
    run(function_scan("learn", [0.5, 1.0]), tmp_path)
    outcome = run(function_scan("learn", [1.0]), tmp_path)
    assert (outcome.launched, outcome.progress.total) == (0, 2)
    assert len(store.read_trials(outcome.folder)) == 4


def test_resources_are_no_part_of_identity(tmp_path: Path) -> None:
    scan = read(DIGITS)
    assert run(scan, tmp_path).launched == 6
    options = ("cpus_per_trial = 2", "checkpoint_minutes = 0.5", "checkpoint_epochs = 3", "deterministic = true")
    resources = "\n".join(["[resources]", *options, ""])
    other = read(DIGITS.replace("[[grid]]", f"{resources}[[grid]]", 1).replace('"digits"', '"digits"', 1))
    assert other.resources.checkpoint_epochs == 3
    assert expand(other).keys().equals(expand(scan).keys())
    assert run(other, tmp_path).launched == 0


def test_a_trial_that_throws_is_a_failed_row_and_the_others_go_on(tmp_path: Path) -> None:
    outcome = run(function_scan("throw", [0.5, 2.0, 1.0], folds=1), tmp_path)
    assert (outcome.exit_code, counts(outcome)) == (1, {"completed": 2, "failed": 1})
    (failed,) = outcome.failures
    assert failed.error == "UserError: no such rate"
    assert "raise UserError(words)" in failed.traceback
    assert rows_of(outcome, "status", "failure") == [("completed", ""), ("completed", ""), ("failed", "config")]


def test_the_command_that_is_told_reruns_a_failed_trial_alone(tmp_path: Path) -> None:
    outcome = run(function_scan("throw", [0.5, 2.0], folds=1), tmp_path)
    (failed,) = outcome.failures
    program, command, scan_file, *options = shlex.split(failed.command)
    assert (program, command) == ("nnscan", "launch")
    asked = dict(zip(options[::2], options[1::2], strict=True))
    assert asked == {"--cluster": "inline", "--scan-dir": str(tmp_path / "scans"), "--trial": failed.key[:16]}
    folder = ScanFolder(Path(asked["--scan-dir"]) / load(scan_file).name)
    again = launch(load(scan_file), folder, LaunchOptions(cluster="inline", trial=asked["--trial"]))
    assert (again.launched, again.exit_code, counts(again)) == (1, 1, {"failed": 1})


def test_one_trial_runs_again_whatever_became_of_it_and_its_outcome_is_its_own(tmp_path: Path) -> None:
    scan = function_scan("throw", [0.5, 2.0], folds=1)
    first = run(scan, tmp_path)
    keys = dict(rows_of(first, "status", "trial"))
    good = run(scan, tmp_path, trial=keys["completed"][:8])
    assert (good.launched, good.exit_code, counts(good)) == (1, 0, {"completed": 1})
    bad = run(scan, tmp_path, trial=keys["failed"])
    assert (bad.launched, bad.exit_code, len(bad.failures)) == (1, 1, 1)
    assert len(rows_of(bad, "trial")) == 2
    with pytest.raises(ScanError, match="--trial"):
        run(scan, tmp_path, trial="x")


def test_a_failed_trial_stays_failed_until_it_is_retried(tmp_path: Path) -> None:
    scan = function_scan("run_out_of_memory", [2.0], folds=1, folder=str(tmp_path), times=3)
    assert run(scan, tmp_path).exit_code == 1
    second = run(scan, tmp_path)
    assert (second.launched, second.exit_code) == (0, 1)
    third = run(scan, tmp_path, retry_failed=True)
    assert (third.launched, third.exit_code, counts(third)) == (1, 0, {"completed": 1})
    assert rows_of(third, "status", "error") == [("completed", "")]


def test_a_nan_loss_is_diverged_and_neither_retried_nor_a_stop(tmp_path: Path) -> None:
    scan = function_scan("diverge", [float(rate) for rate in range(9)], folds=1, epochs=3)
    outcome = run(scan, tmp_path)
    assert (outcome.exit_code, outcome.stopped, counts(outcome)) == (1, "", {"completed": 2, "diverged": 7})
    found = rows_of(outcome, "status", "epochs_run", "score")
    assert found[-1] == ("diverged", 2, 8.0)
    assert run(scan, tmp_path, retry_failed=True).launched == 0


def test_equal_failures_stop_the_scan_and_the_next_launch_goes_on(tmp_path: Path) -> None:
    scan = function_scan("throw", [float(rate) for rate in range(2, 9)], folds=1)
    outcome = run(scan, tmp_path)
    assert (outcome.exit_code, counts(outcome)) == (1, {"failed": FAILURES_IN_A_ROW, "pending": 2})
    assert outcome.stopped.startswith("5 trials in a row failed alike: UserError: no such rate")
    assert outcome.error == ""
    assert len(outcome.failures) == launching.SHOWN_FAILURES
    again = run(scan, tmp_path)
    assert (again.launched, again.stopped, counts(again)) == (2, "", {"failed": 7})
    assert not again.folder.stop.exists()


def test_a_limit_ends_a_launch_without_fault(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5, 2.0])
    outcome = run(scan, tmp_path, limit=3)
    assert (outcome.launched, outcome.exit_code, counts(outcome)) == (3, 0, {"completed": 3, "pending": 1})
    assert run(scan, tmp_path, limit=3).launched == 1
    assert run(scan, tmp_path, limit=3).launched == 0


def test_ctrl_c_keeps_what_finished_and_the_next_launch_gives_what_an_undisturbed_one_gives(tmp_path: Path) -> None:
    (tmp_path / "disturbed").mkdir()
    scan = function_scan("interrupt", [0.5, 2.0, 1.0], folds=1, folder=str(tmp_path))
    outcome = run(scan, tmp_path / "disturbed")
    assert (outcome.exit_code, outcome.interrupted, counts(outcome)) == (130, True, {"completed": 1, "pending": 2})
    again = run(scan, tmp_path / "disturbed")
    assert (again.launched, again.exit_code) == (2, 0)
    undisturbed = run(scan, tmp_path)
    assert differences(again.folder, undisturbed.folder) == []
    assert {attempt for (attempt,) in rows_of(again, "attempt")} == {1}  # an interruption is no fault


def test_ctrl_c_while_data_are_looked_at_is_an_outcome_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nnscan.fingerprints.present", pressed)
    outcome = run(read(DIGITS), tmp_path)
    assert (outcome.exit_code, counts(outcome)) == (130, {"pending": 6})


def test_sigterm_is_an_interruption_and_its_handler_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnscan.fingerprints.present", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert run(read(DIGITS), tmp_path).exit_code == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_launch_runs_in_a_thread_that_no_signal_reaches(tmp_path: Path) -> None:
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run(function_scan("learn", [0.5]), tmp_path)))
    thread.start()
    thread.join()
    assert [outcome.exit_code for outcome in outcomes] == [0]


def test_trials_without_a_result_after_an_ordinary_end_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnscan.worker._wanted", lambda worker: iter(()))
    outcome = run(function_scan("learn", [0.5]), tmp_path)
    assert outcome.exit_code == 1
    assert "2 of 2 trials have no result" in outcome.error


def test_whoever_died_before_costs_its_trial_no_attempt(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5], folds=1)
    folder = run(scan, tmp_path, trial=expand(scan).keys()[0].as_py()).folder
    for part in (*folder.trials.glob("*"), *folder.epochs.glob("*")):
        part.unlink()
    (trial,) = expand(scan).trials()
    for number in range(4):
        writer = Writer(folder, f"launch{number}-0", {})
        writer.start({"trial": trial.key, "attempt": 1, "settings": trial.settings})
    outcome = run(scan, tmp_path)
    assert (outcome.exit_code, rows_of(outcome, "status", "attempt")) == (0, [("completed", 1)])


def test_a_worker_that_died_under_an_earlier_launch_costs_an_attempt(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5], folds=1)
    folder = ScanFolder(tmp_path / "scans" / "learn")
    folder.path.mkdir(parents=True)
    (trial,) = expand(scan).trials()
    store.widen(folder, expand(scan).schemas())
    writer = Writer(folder, "launch-0", {})
    writer.start({"trial": trial.key, "attempt": 2, "configuration": trial.configuration, "settings": trial.settings})
    store.close_journals(folder, lambda _: True, Cause.LOST)
    outcome = run(scan, tmp_path)
    assert rows_of(outcome, "status", "attempt") == [("completed", 3)]


def test_a_trial_that_will_be_tried_again_is_not_told_as_failed(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5])
    folder = run(scan, tmp_path, limit=1).folder
    (asked,) = launch_folder.read_all(folder)
    lost = list(expand(scan).trials())[1]
    for attempt, told in ((2, 0), (3, 1)):
        writer = Writer(folder, f"{asked.name}-{attempt}", {"launch": asked.name})
        writer.start({"trial": lost.key, "attempt": attempt, "settings": lost.settings, "kind": "trial"})
        store.close_journals(folder, lambda _: True, Cause.LOST)
        order = launching.Order(scan=scan, folder=folder, options=LaunchOptions(cluster="inline"))
        assert len(launching._failures(order, asked.name)) == told


def test_a_second_launch_says_who_runs_the_first(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5])
    folder = run(scan, tmp_path, limit=1).folder
    with hold(folder, "nnscan launch x"), pytest.raises(BusyError, match="nnscan launch x"):
        run(scan, tmp_path)


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    scan = read(DIGITS.replace('name = "digits"\n[val', 'name = "image_folder"\nroot = "nowhere"\nsize = 8\n[val'))
    with pytest.raises(DataError, match="nowhere"):
        run(scan, tmp_path)
    assert not (tmp_path / "scans" / "digits").exists()


def test_a_folder_with_results_survives_what_is_refused(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5])
    folder = run(scan, tmp_path, limit=1).folder
    with pytest.raises(ScanError):
        run(scan, tmp_path, trial="x")
    assert len(store.read_trials(folder)) == 1


def test_a_scan_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "scans").write_text("a file")
    with pytest.raises(StoreError, match="scans"):
        run(function_scan("learn", [0.5]), tmp_path)


@pytest.mark.parametrize("cluster", ["inline", "local"])
def test_gpus_that_are_not_there_are_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    monkeypatch.setattr("nnscan.running.visible_gpus", lambda: 0)
    monkeypatch.setattr("nnscan.launching.launcher_for", lambda *_: pytest.fail("it started something"))
    scan = read(function_scan("learn", [0.5]).toml().replace("gpus_per_trial = 0.0", "gpus_per_trial = 0.5"))
    with pytest.raises(ScanError, match=r"resources.gpus_per_trial.*found 0.5; torch sees 0 here"):
        run(scan, tmp_path, cluster=cluster)
    assert not (tmp_path / "scans" / "learn").exists()


def test_cpus_that_are_not_there_are_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnscan.running.usable_cpus", lambda: 2)
    monkeypatch.setattr("nnscan.launching.launcher_for", lambda *_: pytest.fail("it started something"))
    scan = read(function_scan("learn", [0.5]).toml().replace("cpus_per_trial = 1", "cpus_per_trial = 3"))
    with pytest.raises(ScanError, match=r"resources.cpus_per_trial.*found 3; here are 2"):
        run(scan, tmp_path, cluster="local")


def test_progress_is_shown_and_ends_with_the_whole(tmp_path: Path) -> None:
    shown: list[Progress] = []
    scan = function_scan("sleep", [0.5], seconds=0.4, folder=str(tmp_path))
    folder = ScanFolder(tmp_path / "scans" / "sleep")
    outcome = launch(scan, folder, LaunchOptions(cluster="inline"), shown.append)
    assert shown[-1].completed == outcome.progress.completed == 2
    assert any(progress.running == 1 for progress in shown)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"cluster": "slurmy"}, "--cluster"),
        ({"cluster": "ray"}, "--address"),
        ({"address": "h:1"}, "--address"),
        ({"workers": -1}, "--workers"),
        ({"limit": -1}, "--limit"),
    ],
)
def test_options_that_mean_nothing_are_refused(given: dict[str, Any], option: str) -> None:
    with pytest.raises(ScanError, match=option):
        LaunchOptions(**given)


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(ScanError) as caught:
        LaunchOptions(cluster="x", workers=-1, limit=-1)
    assert len(caught.value.problems) == 3


def test_a_scan_of_networks_is_trained_and_ranked(tmp_path: Path) -> None:
    scan: Scan = read(DIGITS)
    outcome = run(scan, tmp_path)
    assert (outcome.exit_code, counts(outcome)) == (0, {"completed": 6})
    table = store.read_trials(outcome.folder)
    assert set(table["model.width"].to_pylist()) == {4, 8, 16}
    # 64 inputs, two hidden layers, 10 classes, each layer with its biases.
    size = {width: 64 * width + width + width * width + width + 10 * width + 10 for width in (4, 8, 16)}
    for row in table.to_pylist():
        assert row["parameters"] == size[row["model.width"]]
        assert row["score"] == row["val_accuracy"]
    epochs = store.read_epochs(outcome.folder)
    assert len(epochs) == 6 * 3  # epoch 0 too
    points = {point["configuration"]: point for point in table.to_pylist()}
    assert all(configuration_key(settings_of(scan, key)) == key for key in points)


def settings_of(scan: Scan, configuration: str) -> Any:
    return next(trial.settings for trial in expand(scan).trials() if trial.configuration == configuration)
