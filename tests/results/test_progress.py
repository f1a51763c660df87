"""How far a scan is: a follower that looks at any moment agrees with the tables, and counts no trial twice."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from scan_by_hand import END, GRID, PLACE, configuration, key_of, plan_of, start_of, write_bundle, write_scan

from nnscan.identity import configuration_key
from nnscan.results import store
from nnscan.results.compaction import compact
from nnscan.results.journal import Cause, Writer
from nnscan.results.progress import Follower
from nnscan.results.tally import Tally

ALL = [(point, fold) for point in GRID for fold in range(3)]


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path / "s")


def seal_everything(scan, cause=Cause.INTERRUPTED):
    store.close_journals(scan, lambda _: True, cause)


def counts_of(progress):
    return {name: getattr(progress, name) for name in ("completed", "diverged", "failed", "running", "pending")}


def end(writer, point, fold, **changes):
    writer.end({"trial": key_of(point, fold), **END, "score": 0.5, "parameters": 1, "seconds": 1.0, **changes})


def test_an_untouched_scan_is_all_pending(scan):
    progress = Follower(scan).poll()
    assert counts_of(progress) == {"completed": 0, "diverged": 0, "failed": 0, "running": 0, "pending": 18}
    (family,) = progress.families
    assert (family.name, family.total, family.best, family.configuration) == ("MLP", 18, None, "")
    assert progress.seconds_left is None


def test_states_follow_the_rows_of_a_journal(scan):
    follower = Follower(scan)
    writer = Writer(scan, "b1", PLACE)
    writer.start(start_of(GRID[0], 0))
    assert (follower.poll().running, follower.poll().pending) == (1, 17)
    end(writer, GRID[0], 0)
    assert (follower.poll().running, follower.poll().completed) == (0, 1)
    writer.start(start_of(GRID[0], 1))
    end(writer, GRID[0], 1, status="diverged", score=None)
    writer.start(start_of(GRID[0], 2))
    end(writer, GRID[0], 2, status="failed", failure="config", score=None)
    writer.start(start_of(GRID[1], 0))
    writer.interrupted(key_of(GRID[1], 0))
    progress = follower.poll()
    assert counts_of(progress) == {"completed": 1, "diverged": 1, "failed": 1, "running": 0, "pending": 15}
    assert progress.ended == 3


def test_sealing_between_two_looks_changes_nothing(scan):
    follower = Follower(scan)
    writer = write_bundle(scan, "b1", [(point, fold, 0.5) for point, fold in ALL[:4]])
    before = follower.poll()
    end_later = ALL[4]
    writer.start(start_of(*end_later))
    end(writer, *end_later)  # not seen in the journal: met in the part only
    writer.close()
    seal_everything(scan)
    after = follower.poll()
    assert (before.completed, after.completed) == (4, 5)
    assert not list(scan.journal.iterdir())
    compact(scan)
    assert counts_of(follower.poll()) == counts_of(after) == counts_of(Follower(scan).poll())


def test_a_bundle_that_is_sealed_before_it_is_seen_is_counted(scan):
    follower = Follower(scan)
    follower.poll()
    write_bundle(scan, "b1", [(point, fold, 0.5) for point, fold in ALL])
    seal_everything(scan)
    assert follower.poll().completed == 18


def test_a_repeated_bundle_counts_no_trial_twice(scan):
    follower = Follower(scan)
    first = write_bundle(scan, "b1", [(point, fold, 0.2) for point, fold in ALL[:3]])
    first.start(start_of(*ALL[3]))
    assert follower.poll().running == 1
    store.close_journals(scan, lambda name: name == "b1", Cause.LOST)
    assert counts_of(follower.poll())["pending"] == 15  # the lost trial is not done
    write_bundle(scan, "b1", [(point, fold, 0.8) for point, fold in ALL[2:5]])  # one again, two new
    progress = follower.poll()
    assert (progress.completed, progress.pending) == (5, 13)
    assert progress.families[0].best == pytest.approx(0.2)  # of the complete configuration, its first ends


@pytest.mark.parametrize(("attempt", "failed"), [(1, 0), (2, 0), (3, 1)])
def test_the_third_lost_attempt_is_a_failure(scan, attempt, failed):
    follower = Follower(scan)
    writer = Writer(scan, "b1", PLACE)
    writer.start({**start_of(*ALL[0]), "attempt": attempt})
    assert follower.poll().running == 1
    seal_everything(scan, Cause.LOST)
    assert counts_of(follower.poll()) == {
        "completed": 0,
        "diverged": 0,
        "failed": failed,
        "running": 0,
        "pending": 18 - failed,
    }


def test_a_failed_trial_that_runs_again_is_running_then_what_it_becomes(scan):
    follower = Follower(scan)
    writer = Writer(scan, "b1", PLACE)
    writer.start(start_of(*ALL[0]))
    end(writer, *ALL[0], status="failed", score=None)
    assert follower.poll().failed == 1
    writer.start(start_of(*ALL[0]))
    assert (follower.poll().failed, follower.poll().running) == (0, 1)
    end(writer, *ALL[0])
    assert (follower.poll().failed, follower.poll().completed) == (0, 1)


def test_the_best_is_a_complete_configuration_once_there_is_one(scan):
    follower = Follower(scan)
    writer = write_bundle(scan, "b1", [(GRID[0], 0, 0.9)])
    (family,) = follower.poll().families
    assert (family.best, family.scored, family.n) == (pytest.approx(0.9), 1, 3)
    writer.close()
    write_bundle(scan, "b2", [(GRID[1], fold, 0.5 + 0.1 * fold) for fold in range(3)])
    (family,) = follower.poll().families
    assert (family.best, family.scored, family.configuration) == (pytest.approx(0.6), 3, configuration_key(GRID[1]))


def test_the_smallest_loss_is_best(tmp_path):
    scan = write_scan(tmp_path / "s", metric="val_loss")
    writer = Writer(scan, "b1", PLACE)
    for index, point in enumerate(GRID):
        for fold in range(3):
            writer.start(start_of(point, fold))
            end(writer, point, fold, metric="val_loss", score=1.0 + index)
    assert Follower(scan).poll().families[0].best == 1.0


def test_scores_by_another_metric_are_no_best(scan):
    write_bundle(scan, "b1", [(point, fold, 0.5) for point, fold in ALL])
    assert Follower(scan, metric="val_loss").poll().families[0].best is None


def test_time_left_counts_what_a_configuration_took_and_who_works(scan):
    follower = Follower(scan)
    one, two = Writer(scan, "b1", PLACE), Writer(scan, "b2", PLACE)
    one.start(start_of(GRID[0], 0))
    end(one, GRID[0], 0, seconds=10.0)
    two.start(start_of(GRID[1], 0))
    end(two, GRID[1], 0, seconds=20.0)
    one.start(start_of(GRID[0], 1))
    # First configuration: a trial and a half at 10 s; second: two at 20 s; four others: three each at the mean, 15 s.
    assert follower.poll().seconds_left == pytest.approx((15 + 40 + 180) / 2)
    one.close()
    two.close()
    assert follower.poll().seconds_left is None


@pytest.mark.parametrize("sealed", [False, True], ids=["journal", "part"])
def test_trials_that_were_trained_together_share_their_time(scan, sealed):
    one, two = Writer(scan, "b1", PLACE), Writer(scan, "b2", PLACE)
    for fold in (0, 1):
        one.start(start_of(GRID[0], fold))
        end(one, GRID[0], fold, seconds=20.0, fused=2)
    if sealed:
        one.close()
        store.seal_all(scan)
    follower = Follower(scan)
    two.start(start_of(GRID[0], 2))
    # Half a trial is left of the first configuration and three each of the five others, at 10 s all; one worker.
    workers = 1 if sealed else 2
    assert follower.poll().seconds_left == pytest.approx((5 + 150) / workers)


def test_families_share_trials_and_the_scan_counts_them_once(scan):
    follower = Follower(scan, plan_of({"all": GRID, "first": GRID[:1]}))
    write_bundle(scan, "b1", [(GRID[0], fold, 0.5) for fold in range(3)])
    progress = follower.poll()
    assert (progress.total, progress.completed) == (18, 3)
    assert [(family.name, family.total, family.completed) for family in progress.families] == [
        ("all", 18, 3),
        ("first", 3, 3),
    ]


def test_trials_that_are_not_in_the_plan_are_ignored(scan):
    write_bundle(scan, "b1", [(configuration(width=9), 0, 0.5), (*ALL[0], 0.5)])
    follower = Follower(scan)
    assert (follower.poll().total, follower.poll().completed) == (18, 1)
    seal_everything(scan)
    assert Follower(scan).poll().completed == 1


def test_a_poll_reads_only_what_is_new(scan, monkeypatch):
    from nnscan.results import tails as module

    offsets = []
    read = module.read_lines

    def spy(path, offset):
        lines, end = read(path, offset)
        offsets.append((offset, end))
        return lines, end

    monkeypatch.setattr(module, "read_lines", spy)
    follower = Follower(scan)
    writer = write_bundle(scan, "b1", [(*ALL[0], 0.5)])
    follower.poll()
    writer.start(start_of(*ALL[1]))
    follower.poll()
    follower.poll()
    (start, first), (second, third), (fourth, last) = offsets
    assert (start, second, fourth) == (0, first, third)
    assert first < third == last


def test_a_torn_line_is_read_when_it_is_whole(scan):
    writer = write_bundle(scan, "b1", [(*ALL[0], 0.5)])
    path = writer.journal.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    follower = Follower(scan)
    assert (follower.poll().completed, follower.poll().running) == (0, 1)
    path.write_bytes(whole)
    assert (follower.poll().completed, follower.poll().running) == (1, 0)


@pytest.mark.parametrize("seed", range(6))
def test_at_every_moment_it_agrees_with_the_tables(scan, seed):
    """Writers, zombies, repeated bundles, seals and compactions at random; several followers, the tables as judge."""
    random = np.random.default_rng(seed)
    followers = [Follower(scan)]
    writers = []
    for step in range(40):
        _act(scan, random, writers, step, may_lose=bool(seed % 2))
        if random.random() < 0.1:
            followers.append(Follower(scan))
        for follower in followers:
            if random.random() < 0.6:
                _agrees(scan, follower.poll())
    for follower in followers:
        _agrees(scan, follower.poll())


def _act(scan, random, writers, step, may_lose):
    # A failed trial that is retried and lost is pending in the table, failed for who followed: not both in one run.
    match random.choice(["begin", "trial", "trial", "trial", "start", "close", "lose", "compact"]):
        case "begin":
            writers.append(Writer(scan, f"b{random.integers(3)}", PLACE))
        case "trial" if writers:
            writer, (point, fold) = random.choice(writers), ALL[random.integers(18)]
            writer.start(start_of(point, fold))
            status = random.choice(["completed", "completed", "diverged" if may_lose else "failed", "diverged"])
            end(writer, point, fold, status=str(status), failure="config" if status == "failed" else "")
        case "start" if writers:
            random.choice(writers).start(start_of(*ALL[random.integers(18)]))
        case "close":
            store.close_journals(scan, lambda name: name == f"b{step % 3}", Cause.INTERRUPTED)
        case "lose" if may_lose:
            store.close_journals(scan, lambda name: name == f"b{step % 3}", Cause.LOST)
        case "compact":
            compact(scan)
    writers[:] = [writer for writer in writers if not writer.closed()]


def _agrees(scan, progress):
    table = store.read_trials(scan, ["trial", "status", "failure"]).to_pylist()
    status = {row["trial"]: row["status"] for row in table if row["failure"] != "lost"}
    running = {row.trial for row in store.running(scan)}
    expected = {"completed": 0, "diverged": 0, "failed": 0, "running": 0, "pending": 0}
    for key in {key_of(point, fold) for point, fold in ALL}:
        state = status.get(key, "pending")
        expected["running" if state in ("failed", "pending") and key in running else state] += 1
    # Completed or diverged, of two attempts whichever is met first stands for the follower: their sum is exact.
    found = counts_of(progress)
    for counts in (expected, found):
        counts["succeeded"] = counts.pop("completed") + counts.pop("diverged")
    assert found == expected


def test_memory_grows_with_the_plan_and_not_with_what_has_finished():
    """A hundred thousand trials: ends add nothing to what is kept."""
    count = 100_000
    keys = [f"{index:032x}" for index in range(count)]
    plan = pa.table({"key": keys, "configuration": [key[:-1] for key in keys], "family": ["f"] * count})
    tally = Tally(plan)
    trials, ones = np.array(keys, dtype="S32"), np.ones(1000)
    tracemalloc.start()
    for start in range(0, count, 1000):
        tally.end(trials[start : start + 1000], np.full(1000, 2), ones, ones)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000
    assert tally.counts([]).sum(axis=0).tolist() == [0, 0, count, 0, 0]
