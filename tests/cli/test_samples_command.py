from __future__ import annotations

from pathlib import Path

import pytest
from commanding import Command
from PIL import Image

FUNCTION = """
name = "own"
[training]
function = "own:train"
metrics = ["loss"]
epochs = 1
"""


def test_a_launched_scan_is_shown_without_an_argument_or_by_name(nnscan: Command, launched: Path) -> None:
    for words in ([], ["small"], ["scans/small"], ["small.toml"]):
        Path("small-samples.png").unlink(missing_ok=True)
        result = nnscan("samples", *words, "--count", "3")
        assert (result.exit_code, result.stdout) == (0, "small-samples.png\n"), result.output
        with Image.open("small-samples.png") as page:
            assert page.format == "PNG"


def test_a_scan_file_will_do_and_the_picture_goes_where_it_is_asked_for(nnscan: Command, launched: Path) -> None:
    changed = ["--set", "data.augmentation.crop_padding=2", "--seed", "4"]
    contents = []
    for number, more in enumerate(([], changed, changed)):
        assert nnscan("samples", "digits", *more, "--output", f"{number}.png").exit_code == 0
        contents.append(Path(f"{number}.png").read_bytes())
    assert contents[0] != contents[1] == contents[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "no such file, and no scan of that name"),
        (["small", "--output", "a.jpg"], "ends with .png"),
        (["small", "--output", "nowhere/a.png"], "cannot be written"),
        (["small", "--family", "CNN"], "There are: MLP"),
        (["small", "--set", "data.size=3"], "data.size"),
        (["mnist"], "--data-root"),
        (["own.toml"], "own:train has its data for itself"),
    ],
    ids=["scan", "ending", "folder", "family", "option", "data", "function"],
)
def test_what_cannot_be_shown_is_told_with_what_to_do(
    nnscan: Command, launched: Path, words: list[str], said: str
) -> None:
    Path("own.toml").write_text(FUNCTION)
    Path("own.py").write_text("def train():\n    yield {'loss': 1.0}\n")
    result = nnscan("samples", *words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert not list(Path().glob("*-samples.png"))
