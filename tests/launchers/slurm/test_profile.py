"""Profiles: what they may say, where they are found, and the ones that come with nnscan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT, tables

from nnscan import scan, toml
from nnscan.errors import ScanError
from nnscan.launchers.slurm import profile as slurm_profile
from nnscan.launchers.slurm.profile import Profile, filled, find_profile, profile_file, read_profile
from nnscan.options import declared
from nnscan.options.tables import Arguments, Resources

PACKAGED = sorted((ROOT / "slurm").glob("*.toml"))


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm").mkdir()
    return tmp_path


def problems(text: str) -> list[str]:
    with pytest.raises(ScanError) as error:
        read_profile(text, "p.toml")
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("value", "minutes"),
    [
        ("90", 90),
        ('"90"', 90),
        ('"1:30"', 2),  # minutes:seconds, rounded up: Slurm counts whole minutes
        ('"1:00:00"', 60),
        ('"1:00:01"', 61),
        ('"2-0"', 2880),
        ('"2-12:30"', 3630),
        ('"1-00:00:00"', 1440),
    ],
)
def test_times_are_read_as_slurm_reads_them(value: str, minutes: int) -> None:
    assert read_profile(f"time = {value}").minutes == minutes


@pytest.mark.parametrize("value", ["0", "-5", "true", "1.5", '""', '"tomorrow"', '"0:00"', '"1:2:3:4"', '"1-"', "[60]"])
def test_what_is_no_time_is_refused(value: str) -> None:
    (problem,) = problems(f"time = {value}")
    assert problem.startswith("time: found ")
    assert '"D-HH:MM:SS"' in problem


def test_an_unknown_key_names_the_nearest() -> None:
    (problem,) = problems('partitoin = "main"')
    assert 'Did you mean "partition"?' in problem


def test_all_problems_are_told_at_once() -> None:
    found = problems("gpus = 3\nmemory_gb_per_process = -1\nsignal_seconds = 0\nbundles_at_once = 1.0\nnix = 1")
    assert [problem.partition(":")[0] for problem in found] == [
        "gpus",
        "memory_gb_per_process",
        "signal_seconds",
        "bundles_at_once",
        "nix",
    ]


@pytest.mark.parametrize("letter", ["\\n", "\\r", "\\u0000", "\\u001b", "\\u007f"])
@pytest.mark.parametrize("key", ["partition", "account", "constraint", "python"])
def test_control_characters_are_refused(key: str, letter: str) -> None:
    """They would end the line of the script and begin another."""
    (problem,) = problems(f'{key} = "a{letter}#SBATCH --uid=0"')
    assert "without control characters" in problem


def test_control_characters_are_refused_in_lists_and_options() -> None:
    first, second, third = problems('setup = ["a", "b\\nc"]\nsrun = ["x\\ny"]\n[sbatch]\ncomment = "x\\ny"')
    assert first.startswith("setup[1]: ")
    assert second.startswith("srun[0]: ")
    assert third.startswith("sbatch.comment: ")


@pytest.mark.parametrize("option", sorted(slurm_profile.OWN_OPTIONS))
def test_options_that_nnscan_sets_are_refused_and_say_what_to_write(option: str) -> None:
    (problem,) = problems(f'[sbatch]\n{option} = "1"')
    assert "which nnscan sets" in problem


@pytest.mark.parametrize("line", ["mail-type = false", "nice = 1.5", "nice = [1]", '"--nice" = 1', "Nice = 1"])
def test_what_is_no_option_of_sbatch_is_refused(line: str) -> None:
    assert len(problems(f"[sbatch]\n{line}")) == 1


def test_a_file_that_is_no_toml_is_told() -> None:
    (problem,) = problems("time = ")
    assert problem.startswith("TOML: ")


def test_the_working_folder_goes_before_the_package(working_folder: Path) -> None:
    assert profile_file("cpu") == ROOT / "slurm" / "cpu.toml"
    (working_folder / "slurm" / "cpu.toml").write_text("time = 7")
    assert find_profile("cpu").minutes == 7


def test_without_a_name_it_is_the_default(working_folder: Path) -> None:
    assert find_profile() == Profile()
    (working_folder / "slurm" / "default.toml").write_text("time = 8")
    assert find_profile().minutes == 8


def test_a_path_is_taken_as_it_is(working_folder: Path) -> None:
    (working_folder / "mine.toml").write_text("time = 9")
    assert find_profile("mine.toml").minutes == 9
    assert find_profile(str(working_folder / "mine.toml")).minutes == 9


@pytest.mark.parametrize("name", ["defualt", "x" * 5000, "a\0b", "slurm"])
def test_a_profile_that_is_not_there_is_told_with_those_that_are(working_folder: Path, name: str) -> None:
    with pytest.raises(ScanError, match=r"There are: cpu, default, four_gpus, gpu, preemptible, two_nodes") as error:
        find_profile(name)
    assert ('Did you mean "default"?' in str(error.value)) == (name == "defualt")


def test_a_file_that_is_no_text_is_told(working_folder: Path) -> None:
    (working_folder / "slurm" / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScanError, match="no UTF-8"):
        find_profile("bad")
    (working_folder / "slurm" / "large.toml").write_bytes(b"#" * 300_000)
    with pytest.raises(ScanError, match="larger than"):
        find_profile("large")


def test_variables_of_sbatch_fill_what_the_profile_leaves_open() -> None:
    variables = {"SBATCH_ACCOUNT": "a", "SBATCH_PARTITION": "b", "SBATCH_TIMELIMIT": "3", "SBATCH_QOS": ""}
    assert filled(Profile(account="mine"), variables) == Profile(account="mine", partition="b")


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_the_profiles_that_come_along_are_accepted(path: Path) -> None:
    profile = find_profile(str(path))
    assert profile.signal_seconds < profile.minutes * 60
    assert profile.memory_gb_per_process >= 0.7


@pytest.mark.parametrize("path", [path for path in PACKAGED if path.stem != "default"], ids=lambda path: path.stem)
def test_what_their_comments_say_of_the_scan_file_is_accepted(path: Path) -> None:
    lines = [line.removeprefix("#     ") for line in path.read_text().splitlines() if line.startswith("#     ")]
    told = "\n".join(lines[next(place for place, line in enumerate(lines) if line.startswith("[")) :])
    base = 'name = "x"\ndata.name = "digits"\nmodel.name = "mlp"\noptimizer.name = "adam"\n'
    read = scan.read(base + told, overrides=["training.epochs=1"])
    assert read.resources != Resources() or path.stem == "cpu"


def test_the_page_tells_of_every_profile() -> None:
    page = (ROOT / "docs" / "slurm.md").read_text()
    assert re.findall(r"\[\w+\]\(\.\./slurm/(\w+)\.toml\)", page) == [
        "default",
        "cpu",
        "gpu",
        "four_gpus",
        "two_nodes",
        "preemptible",
    ]
    assert sorted(path.stem for path in PACKAGED) == ["cpu", "default", "four_gpus", "gpu", "preemptible", "two_nodes"]


def test_the_table_of_options_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "slurm.md").read_text().split("<!-- options of Profile -->\n\n")[1]
    told = next(tables(text))
    expected = []
    for name, field in Profile.model_fields.items():
        takes = "a table" if field.annotation == Arguments else declared.accepted(declared._type_of(field))
        expected.append([f"`{name}`", takes, f"`{toml.value(field.get_default())}`"])
    assert [row[:3] for row in told] == expected
