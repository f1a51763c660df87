from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scan_by_hand import END, GRID, PLACE, key_of, start_of, write_scan
from submitted_by_hand import KEYS, LAUNCH, end_bundle, running, submitted_scan, tell_queue, waiting

from nnscan import logs
from nnscan.errors import ScanError
from nnscan.logs import Subject
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer
from nnscan.results.store import close_journals
from nnscan.scheduled import look

RAY = {**PLACE, "host": "node.far.org", "pid": 71}
BUNDLE = f"{LAUNCH}-6"


@pytest.fixture
def local(tmp_path: Path) -> ScanFolder:
    """A scan that a worker of Ray runs: process 71 of node.far.org."""
    folder = write_scan(tmp_path / "s")
    (folder.launches / "l").mkdir(parents=True)
    print_to(folder, "logs/node.far.org-71.log", "of 71\n")
    print_to(folder, "logs/node.far.org-72.log", "of 72\n")
    print_to(folder, "logs/ray.log", "of Ray\n")
    return folder


@pytest.fixture
def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScanFolder:
    """A scan of three bundles on Slurm: one ended, one runs, one waits."""
    folder = submitted_scan(tmp_path / "s")
    tell_queue(monkeypatch, {"100_1": running(), "100_2": waiting()})
    end_bundle(folder, 0)
    for name in (f"{LAUNCH}-0.0", f"{LAUNCH}-6.0", f"{LAUNCH}-6.1"):
        print_to(folder, f"logs/{name}.log", f"{name}\n")
    print_to(folder, f"launches/{LAUNCH}/submitit/100_1_0_log.out", "job\n")
    print_to(folder, f"launches/{LAUNCH}/submitit/100_1_submitted.pkl", "no words\n")
    return folder


def print_to(folder: ScanFolder, name: str, text: str) -> None:
    path = folder.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def begin(folder: ScanFolder, bundle: str = "l-0", point: int = 0, place: dict = RAY) -> Writer:
    """Begin fold 0 of a point."""
    writer = Writer(folder, bundle, place)
    writer.start(start_of(GRID[point], 0))
    return writer


def end(writer: Writer, point: int = 0, **changes: object) -> None:
    writer.end({"trial": key_of(GRID[point], 0), **END, "score": 0.5, **changes})


def words_of(folder: ScanFolder, trial: str = "", bundle: str = "") -> logs.Words:
    return logs.words(folder, Subject(trial=trial, bundle=bundle), look(folder))


def names(found: logs.Words) -> list[str]:
    return sorted(log.path.name for log in found.logs)


# ---- which logs there are ----


def test_all_logs_are_listed_with_their_bundles(submitted: ScanFolder) -> None:
    assert {log.path.name: log.bundle for log in logs.logs(submitted)} == {
        f"{LAUNCH}-0.0.log": f"{LAUNCH}-0",
        f"{LAUNCH}-6.0.log": BUNDLE,
        f"{LAUNCH}-6.1.log": BUNDLE,
        "100_1_0_log.out": BUNDLE,
    }


def test_the_log_that_changed_last_comes_last(local: ScanFolder) -> None:
    for age, path in enumerate(sorted(local.logs.iterdir())):
        os.utime(path, (1000.0 - age, 1000.0 - age))
    found = logs.logs(local)
    assert [log.path.name for log in found] == ["ray.log", "node.far.org-72.log", "node.far.org-71.log"]
    assert [(log.size, log.changed, log.bundle) for log in found] == [(7, 998.0, ""), (6, 999.0, ""), (6, 1000.0, "")]


# ---- whose words are meant ----


def test_a_trial_is_found_by_how_its_key_begins(submitted: ScanFolder) -> None:
    assert logs.resolve(submitted, KEYS[4][:12]) == Subject(trial=KEYS[4])


@pytest.mark.parametrize("text", [BUNDLE, "100_1"], ids=["name", "job"])
def test_a_bundle_is_found_by_its_name_and_by_its_job(submitted: ScanFolder, text: str) -> None:
    assert logs.resolve(submitted, text) == Subject(bundle=BUNDLE)


def test_a_bundle_is_found_by_how_its_name_begins(local: ScanFolder) -> None:
    begin(local, "l-12")
    assert logs.resolve(local, "l-") == Subject(bundle="l-12")


def test_what_several_begin_with_is_refused(submitted: ScanFolder) -> None:
    with pytest.raises(ScanError, match=rf"3 begin with '{LAUNCH[:9]}': {LAUNCH}-0, .*Give more of it"):
        logs.resolve(submitted, LAUNCH[:9])


def test_what_nothing_begins_with_names_the_nearest(submitted: ScanFolder) -> None:
    wrong = KEYS[0][:10] + ("0" if KEYS[0][10] != "0" else "1") + KEYS[0][11:]
    with pytest.raises(ScanError, match=f"Did you mean {KEYS[0]}"):
        logs.resolve(submitted, wrong)
    with pytest.raises(ScanError, match=f"Did you mean {BUNDLE}"):
        logs.resolve(submitted, f"{LAUNCH}-66".replace("abcdef", "abcdee"))


# ---- of a trial ----


def test_a_trial_in_training_has_the_log_of_its_worker(local: ScanFolder) -> None:
    begin(local)
    found = words_of(local, KEYS[0])
    assert names(found) == ["node.far.org-71.log"]
    assert (found.host, found.pid, found.bundle, found.running, found.over) == ("node.far.org", 71, "l-0", True, False)


@pytest.mark.parametrize("sealed", [False, True], ids=["journal", "part"])
def test_a_trial_that_ended_has_the_log_of_the_worker_that_trained_it(local: ScanFolder, *, sealed: bool) -> None:
    writer = begin(local)
    end(writer, status="failed", failure="config", error="ValueError: no", traceback="T\n")
    begin(local, "l-1", 3, {**RAY, "pid": 72})
    if sealed:
        close_journals(local, lambda bundle: bundle == "l-0", Cause.ENDED)
    found = words_of(local, KEYS[0])
    assert (names(found), found.running, found.over) == (["node.far.org-71.log"], False, True)
    assert (found.row["error"], found.row["traceback"]) == ("ValueError: no", "T\n")


def test_the_worker_that_tries_a_trial_again_comes_before_the_one_that_failed_in_it(local: ScanFolder) -> None:
    end(begin(local), status="failed", failure="lost", error="died")
    close_journals(local, lambda _: True, Cause.ENDED)
    begin(local, "l-0", 0, {**RAY, "pid": 72})
    found = words_of(local, KEYS[0])
    assert (names(found), found.running, found.over) == (["node.far.org-72.log"], True, False)


def test_a_queued_trial_has_the_bundle_that_holds_it(submitted: ScanFolder) -> None:
    found = words_of(submitted, KEYS[13])
    assert (found.bundle, found.job, names(found)) == (f"{LAUNCH}-12", "100_2", [])
    assert (found.running, found.over) == (False, False)


def test_a_trial_that_ended_is_over_although_its_bundle_goes_on(submitted: ScanFolder) -> None:
    end(begin(submitted, BUNDLE, 2), 2)
    found = words_of(submitted, KEYS[6])
    assert (found.job, found.over) == ("100_1", True)
    assert names(found) == [f"{LAUNCH}-6.0.log", f"{LAUNCH}-6.1.log"]  # not what the job printed before its workers


@pytest.mark.parametrize(
    ("bundle", "changes"),
    [("old-0", {}), (BUNDLE, {"status": "failed", "failure": "lost"})],
    ids=["launched again", "lost"],
)
def test_a_trial_that_a_job_is_to_repeat_is_not_over(
    submitted: ScanFolder, bundle: str, changes: dict[str, str]
) -> None:
    end(begin(submitted, bundle, 2), 2, **changes)
    assert not words_of(submitted, KEYS[6]).over


def test_a_trial_whose_job_started_no_worker_has_what_the_job_printed(submitted: ScanFolder) -> None:
    for path in submitted.logs.glob(f"{BUNDLE}.*"):
        path.unlink()
    assert names(words_of(submitted, KEYS[6])) == ["100_1_0_log.out"]


def test_a_trial_that_nobody_is_going_to_train_is_over(local: ScanFolder) -> None:
    found = words_of(local, KEYS[5])
    assert (found.logs, found.bundle, found.over) == ((), "", True)
    local.lock.write_text("nnscan launch, process 1 of a on far, since then\n")
    assert not words_of(local, KEYS[5]).over


def test_a_retraining_has_words_too(local: ScanFolder) -> None:
    writer = Writer(local, "l-0", RAY)
    writer.start({**start_of(GRID[0], 0), "trial": "f" * 32, "kind": "retraining"})
    assert names(words_of(local, logs.resolve(local, "ffff").trial)) == ["node.far.org-71.log"]


# ---- of a bundle ----


def test_a_bundle_on_slurm_has_its_ranks_and_its_job(submitted: ScanFolder) -> None:
    found = words_of(submitted, bundle=BUNDLE)
    assert names(found) == ["100_1_0_log.out", f"{LAUNCH}-6.0.log", f"{LAUNCH}-6.1.log"]
    assert (found.job, found.over) == ("100_1", False)


def test_a_bundle_on_slurm_that_ended_is_over(submitted: ScanFolder) -> None:
    found = words_of(submitted, bundle=f"{LAUNCH}-0")
    assert (names(found), found.over) == ([f"{LAUNCH}-0.0.log"], True)


def test_while_the_scheduler_is_silent_only_a_bundle_that_told_its_end_is_over(
    submitted: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_queue(monkeypatch, {}, error="no controller")
    assert words_of(submitted, bundle=f"{LAUNCH}-0").over
    assert not words_of(submitted, bundle=f"{LAUNCH}-12").over


def test_a_bundle_of_ray_has_the_logs_of_every_worker_that_had_it(local: ScanFolder) -> None:
    end(begin(local))
    close_journals(local, lambda _: True, Cause.ENDED)
    begin(local, "l-0", 1, {**RAY, "pid": 72})
    found = words_of(local, bundle="l-0")
    assert names(found) == ["node.far.org-71.log", "node.far.org-72.log"]
    assert (found.running, found.over) == (True, False)


# ---- reading and following ----


def test_logs_are_read_whole(local: ScanFolder) -> None:
    found = logs.logs(local)
    assert [(path.name, text) for path, text in logs.read(found)] == [
        (log.path.name, log.path.read_text()) for log in found
    ]


@given(st.lists(st.binary(max_size=9), max_size=6))
def test_what_is_added_is_read_once_whatever_the_bytes_and_wherever_they_are_cut(parts: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "a.log")
        tail, said = logs._Tail(path), ""
        assert list(tail.new()) == []
        for part in parts:
            with path.open("ab") as file:
                file.write(part)
            said += "".join(tail.new())
        whole = b"".join(parts).decode(errors="replace")
        assert said + tail.decoder.decode(b"", final=True) == whole


def test_following_ends_with_the_trial_and_has_all_that_it_said(
    local: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "POLL_SECONDS", 0.01)
    writer = begin(local)

    def train() -> None:
        for epoch in range(5):
            time.sleep(0.02)
            print_to(local, "logs/node.far.org-71.log", f"epoch {epoch}\n")
        end(writer)

    thread = threading.Thread(target=train)
    thread.start()
    said = "".join(text for _, text in logs.follow(lambda: words_of(local, KEYS[0])))
    thread.join()
    assert said == "of 71\n" + "".join(f"epoch {epoch}\n" for epoch in range(5))


def test_following_all_begins_with_what_is_new(local: ScanFolder) -> None:
    writer = begin(local)
    passed_over = logs.logs(local)

    def looks() -> Iterator[None]:
        yield print_to(local, "logs/ray.log", "new\n")
        yield print_to(local, "logs/node.far.org-73.log", "another\n")
        end(writer)
        close_journals(local, lambda _: True, Cause.ENDED)

    steps = looks()

    def look_again() -> logs.Words:
        next(steps, None)
        return words_of(local)

    said = [(path.name, text) for path, text in logs.follow(look_again, passed_over=passed_over)]
    assert said == [("ray.log", "new\n"), ("node.far.org-73.log", "another\n")]
