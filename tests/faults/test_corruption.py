"""Damaged files: told by name, with what to do; what is sound is kept, and only what was lost runs again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dying import launch_until
from launched import differences, launched_here, said, scan_of_a_function, scan_of_networks, seeded, tables

from nnscan.errors import StoreError
from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 10, len(content), max(1, len(content) // 10)):
        content[place] ^= 0xFF
    path.write_bytes(bytes(content))


def garbage(path: Path) -> None:
    path.write_bytes(b"\0\xff garbage {[" * 9)


DAMAGES = pytest.mark.parametrize("damage", [cut_in_half, empty, flip_bits, garbage])
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a scan of 6 trials, launched in two halves: two parts of each table."""
    home = tmp_path_factory.mktemp("sound")
    scan = scan_of_a_function(home, rates=3, epochs=2)
    launched_here(scan, home / "scans")
    return home


@pytest.fixture
def home(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "home")
    return tmp_path / "home"


def launches_of(folder: Path) -> list[str]:
    return sorted(read_trials(ScanFolder(folder), ["launch"])["launch"].to_pylist())


def check_told(home: Path, path: Path, *, by: tuple[str, ...]) -> None:
    """Each command names the file and what to do, and shows no traceback."""
    commands = {
        "launch": ("launch", "scan.toml", "--cluster", "inline"),
        "status": ("status", "scans/s"),
        "summarize": ("summarize", "scans/s"),
    }
    for name in by:
        code, text = said(*commands[name], home=home)
        assert code in (1, 2), f"{name}: {text}"
        assert path.name in text, f"{name}: {text}"
        assert "Traceback" not in text, f"{name}: {text}"


# ---- parts ----


@pytest.mark.parametrize("damage", [cut_in_half, empty, flip_bits, garbage])
def test_a_damaged_part_of_trials_is_named_and_its_trials_run_again(home: Path, damage: Damage) -> None:
    """Of two parts: the first has the trials of the scan file, the second those that were added."""
    folder = home / "scans" / "s"
    (first,) = (folder / "trials").glob("*.parquet")
    scan = scan_of_a_function(home, rates=4, epochs=2)
    launched_here(scan, home / "scans")
    undisturbed = tables(folder)
    assert first.exists(), "two new trials do not rewrite six"
    damage(first)
    with pytest.raises(StoreError, match=rf"{first.name} does not read: .* Move it away \(`mv {first}"):
        launched_here(scan, home / "scans")
    check_told(home, first, by=("launch", "status", "summarize"))
    first.rename(first.with_suffix(".parquet.corrupt"))
    outcome = launched_here(scan, home / "scans")
    assert (outcome.exit_code, outcome.launched) == (0, 6)
    assert differences(tables(folder), undisturbed) == []


def test_a_flipped_bit_in_a_part_is_found_or_changes_nothing(home: Path) -> None:
    folder = ScanFolder(home / "scans" / "s")
    (part,) = folder.trials.glob("*.parquet")
    sound, content = read_trials(folder), part.read_bytes()
    chance, found = seeded("bits"), 0
    for place in chance.sample(range(len(content)), 200):
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        part.write_bytes(bytes(changed))
        try:
            assert read_trials(folder).equals(sound), f"byte {place}"
        except StoreError as error:
            assert part.name in str(error)
            found += 1
    assert found > 20


@pytest.mark.parametrize("damage", [cut_in_half, empty, flip_bits, garbage])
def test_a_damaged_part_of_epochs_is_named_and_costs_no_score(home: Path, damage: Damage) -> None:
    folder = home / "scans" / "s"
    trials, _ = tables(folder)
    (part,) = (folder / "epochs").glob("*.parquet")
    damage(part)
    check_told(home, part, by=("launch",))
    with pytest.raises(StoreError, match=rf"{part.name} does not read: .* Move it away .*the scores in trials/ stay"):
        launched_here(home / "scan.toml", home / "scans")
    code, text = said("summarize", "scans/s", home=home)
    assert code == 0, text
    part.rename(part.with_suffix(".parquet.corrupt"))
    assert launched_here(home / "scan.toml", home / "scans").launched == 0
    assert differences(tables(folder), (trials, [])) == []
    code, text = said("retrain-best", "s", home=home)
    assert (code, "--epochs" in text, "Traceback" in text) == (2, True, False), text


# ---- the other files of a scan folder ----


@DAMAGES
@pytest.mark.parametrize("name", ["plan.parquet", "scan.toml"])
def test_what_a_launch_writes_anew_is_mended_by_it(home: Path, name: str, damage: Damage) -> None:
    path = home / "scans" / "s" / name
    undisturbed, sound = tables(path.parent), path.read_bytes()
    damage(path)
    check_told(home, path, by=("status", "summarize"))
    outcome = launched_here(home / "scan.toml", home / "scans")
    assert (outcome.exit_code, outcome.launched) == (0, 0)
    assert path.read_bytes() == sound
    assert differences(tables(path.parent), undisturbed) == []


@DAMAGES
def test_a_damaged_schema_is_named_and_comes_back(home: Path, damage: Damage) -> None:
    path = home / "scans" / "s" / "schema.json"
    undisturbed, sound = tables(path.parent), path.read_bytes()
    damage(path)
    check_told(home, path, by=("launch", "summarize"))
    path.unlink()
    assert launched_here(home / "scan.toml", home / "scans").launched == 0
    assert path.read_bytes() == sound
    assert differences(tables(path.parent), undisturbed) == []


@DAMAGES
def test_a_damaged_launch_is_named(home: Path, damage: Damage) -> None:
    folder = home / "scans" / "s"
    undisturbed = tables(folder)
    (path,) = folder.glob("launches/*/launch.json")
    scan = scan_of_a_function(home, rates=4, epochs=2)
    damage(path)
    check_told(home, path, by=("launch",))
    path.rename(path.with_suffix(".corrupt"))
    assert launched_here(scan, home / "scans").launched == 2
    assert all(row in tables(folder)[0] for row in undisturbed[0])


def test_a_lock_file_with_garbage_locks_all_the_same(home: Path) -> None:
    garbage(home / "scans" / "s" / "lock")
    assert launched_here(home / "scan.toml", home / "scans").exit_code == 0


def test_journals_with_garbage_lose_no_whole_row(home: Path, tmp_path: Path) -> None:
    """A torn row, the zeros of a lost page, bytes that are no text: rows around them count."""
    folder = home / "scans" / "s"
    undisturbed = tables(folder)
    shutil.rmtree(home / "scans")
    assert not launch_until(100, home / "scan.toml", home / "scans").seen
    (journal,) = (folder / "journal").glob("*.jsonl")
    whole = journal.read_bytes()
    ended = whole.count(b'{"row": "end"')
    lines = whole.splitlines(keepends=True)
    torn = [b"\0" * 4096, b"\xff\xfe\n", b'{"row": "epo\n']
    journal.write_bytes(b"".join([lines[0], *torn, *lines[1:], b'{"row": "en']))
    assert ended == len(read_trials(ScanFolder(folder)))
    assert launched_here(home / "scan.toml", home / "scans").launched == 6 - ended
    assert differences(tables(folder), undisturbed) == []


def test_unknown_files_in_a_scan_folder_are_left_alone(home: Path) -> None:
    folder = home / "scans" / "s"
    for name in ("trials/notes.txt", "journal/notes.jsonl.txt", "epochs/.hidden", "checkpoints/x.pt", "note"):
        (folder / name).parent.mkdir(exist_ok=True)
        garbage(folder / name)
    assert launched_here(home / "scan.toml", home / "scans").exit_code == 0
    assert (folder / "trials" / "notes.txt").exists()


# ---- checkpoints and decoded data ----


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with 8 networks, trained; and the data they were trained on, decoded."""
    home = tmp_path_factory.mktemp("networks")
    launched_here(scan_of_networks(home), home / "scans")
    return home


@pytest.mark.parametrize("damage", [cut_in_half, empty, flip_bits, garbage])
def test_a_damaged_checkpoint_is_passed_over(
    networks: Path, tmp_path: Path, damage: Damage, capfd: pytest.CaptureFixture[str]
) -> None:
    scan, scans = scan_of_networks(tmp_path / "home"), tmp_path / "home" / "scans"
    shutil.copytree(networks / "scans" / ".cache", scans / ".cache")
    moment = 120
    while not list(scans.glob("s/checkpoints/*.pt")):
        shutil.rmtree(scans / "s", ignore_errors=True)
        assert not launch_until(moment, scan, scans).seen
        moment += 7
    (checkpoint,) = scans.glob("s/checkpoints/*.pt")
    damage(checkpoint)
    assert launched_here(scan, scans).exit_code == 0
    assert f"passed over a checkpoint: {checkpoint}" in capfd.readouterr().out
    assert differences(tables(scans / "s"), tables(networks / "scans" / "s")) == []
    assert not list(scans.glob("s/checkpoints/*"))


@pytest.mark.parametrize("damage", [cut_in_half, empty, garbage])
@pytest.mark.parametrize("name", ["*.npy", "manifest.json"])
def test_decoded_data_that_are_damaged_are_decoded_again(
    networks: Path, tmp_path: Path, name: str, damage: Damage
) -> None:
    home = tmp_path / "home"
    shutil.copytree(networks, home)
    shutil.rmtree(home / "scans" / "s")
    for path in (home / "scans" / ".cache").glob(f"*/{name}"):
        damage(path)
    assert launched_here(home / "scan.toml", home / "scans").exit_code == 0
    assert differences(tables(home / "scans" / "s"), tables(networks / "scans" / "s")) == []
