from __future__ import annotations

from pathlib import Path

import pytest
from commanding import Command
from PIL import Image

MODEL = "scans/small/models/MLP"


@pytest.fixture
def picture(launched: Path) -> str:
    Image.new("L", (8, 8), 100).save("grey.png")
    return "grey.png"


def test_a_network_without_maps_is_told_with_the_way_out(nnscan: Command, picture: str) -> None:
    result = nnscan("explain", MODEL, picture)
    assert result.exit_code == 2
    assert "no convolution" in result.stderr
    assert not Path("explained").exists()


def test_a_file_that_is_no_picture_is_told(nnscan: Command, picture: str) -> None:
    result = nnscan("explain", MODEL, picture, "lost.png")
    assert result.exit_code == 2
    assert "lost.png" in result.stderr


def test_a_method_that_there_is_not_is_told(nnscan: Command, picture: str) -> None:
    result = nnscan("explain", MODEL, picture, "--method", "guess")
    assert result.exit_code == 2
    assert "grad-cam" in result.stderr


def test_pictures_are_not_written_over(nnscan: Command, picture: str) -> None:
    before = Path(picture).read_bytes()
    result = nnscan("explain", MODEL, picture, "--output", ".")
    assert result.exit_code == 2
    assert "would take the place of the picture grey.png" in result.stderr
    assert Path(picture).read_bytes() == before
