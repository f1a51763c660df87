from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commanding import Command

from nnscan.cli import app, commands
from nnscan.errors import BusyError, LauncherError, NnscanError

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *("launch", "status", "watch", "track", "logs", "cancel", "summarize", "retrain-best", "evaluate", "report"),
    "predict",
    "explain",
    "samples",
    "doctor",
]


def test_help_names_every_command(nnscan: Command) -> None:
    listed = re.findall(r"^  ([a-z-]+)  ", nnscan("--help").stdout.split("Commands:")[1], flags=re.MULTILINE)
    assert listed == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples_that_name_it(nnscan: Command, name: str) -> None:
    result = nnscan(name, "--help")
    assert result.exit_code == 0
    examples = result.stdout.split("Examples:")[1].split("\n\n")[0].strip().splitlines()
    assert len(examples) >= 2
    assert any(f"nnscan {name}" in example for example in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    for parameter in app_command(name).params:
        assert getattr(parameter, "help", ""), parameter.name


def app_command(name: str):  # typer's own types differ between releases
    import typer

    return typer.main.get_command(app).commands[name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lanch"], "Did you mean 'launch'"),
        (["launch", "--worker", "2"], "--workers"),
        (["launch", "--workers", "two"], "--workers"),
        (["launch", "--cluster", "lokal"], "'local', 'ray', 'slurm', 'inline'"),
        (["summarize", "--format", "xml"], "'table', 'json', 'csv', 'parquet'"),
        (["launch", "--limit", "-1"], "--limit"),
        (["predict"], "MODEL"),
    ],
    ids=["command", "option", "integer", "cluster", "format", "negative", "missing argument"],
)
def test_what_is_typed_wrong_ends_with_2_and_names_what_is_right(
    nnscan: Command, arguments: list[str], said: str
) -> None:
    result = nnscan(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(("error", "code"), [(BusyError("held by 7"), 2), (LauncherError("gone"), 1)])
def test_an_error_on_purpose_is_told_without_traceback(
    nnscan: Command, monkeypatch: pytest.MonkeyPatch, error: NnscanError, code: int
) -> None:
    result = nnscan_with(nnscan, monkeypatch, error)
    assert (result.exit_code, result.stderr) == (code, f"Error: {error}\n")


def test_an_interruption_ends_with_130(nnscan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nnscan_with(nnscan, monkeypatch, KeyboardInterrupt()).exit_code == 130


def test_a_bug_keeps_its_traceback(nnscan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    result = nnscan_with(nnscan, monkeypatch, ZeroDivisionError("1 / 0"))
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def nnscan_with(nnscan: Command, monkeypatch: pytest.MonkeyPatch, error: BaseException):
    """Run a command that raises `error`."""

    def raise_it(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("nnscan.doctor.examine", raise_it)
    return nnscan("doctor")


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    code = (
        "from nnscan.cli import app, commands; import typer\n"
        "@app.command()\n"
        "def talk() -> None:\n"
        "    [typer.echo('x' * 1000) for _ in range(1000)]\n"
        "app(['talk'])"
    )
    shell = f'{sys.executable} -c "$CODE" | head -n 1; echo ${{PIPESTATUS[0]}}'
    environment = {"CODE": code, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.splitlines()[-1] == str(commands.BROKEN_PIPE)
    assert answer.stderr == ""


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from nnscan.cli import app\n"
        "try: app(['--help'])\n"
        "finally: print(sorted({'torch', 'ray', 'pyarrow', 'pydantic', 'numpy', 'rich'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_the_help_of_no_command_loads_anything_heavy() -> None:
    code = (
        "import sys\n"
        "from nnscan.cli import app\n"
        f"for name in {COMMANDS}:\n"
        "    try: app([name, '--help'])\n"
        "    except SystemExit as done: assert done.code == 0, name\n"
        "print(sorted({'torch', 'ray', 'matplotlib', 'pyarrow', 'wandb', 'tensorboard'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words", [["status"], ["summarize"], ["watch"], ["track", "--tensorboard"]], ids=lambda words: words[0]
)
def test_commands_that_look_load_nothing_that_trains(launched: Path, words: list[str]) -> None:
    code = (
        "import sys\n"
        "from nnscan.cli import app\n"
        f"try: app({words})\n"
        "except SystemExit as done: assert not done.code\n"
        "print(sorted({'torch', 'ray', 'matplotlib', 'wandb'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_python_m_nnscan_is_the_same_command() -> None:
    answer = subprocess.run([sys.executable, "-m", "nnscan", "lanch"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "Did you mean 'launch'" in answer.stderr
