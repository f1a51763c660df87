from __future__ import annotations

from pathlib import Path

import pytest

from nnscan.errors import ScanError, StoreError
from nnscan.plan import read_columns
from nnscan.results.asked import Asked, asked
from nnscan.results.folder import ScanFolder
from nnscan.results.progress import Follower
from nnscan.results.summary import summarize_folder
from nnscan.scan import read


def test_name_and_metric_are_those_of_the_scan(tmp_path: Path) -> None:
    scan = read(
        'name = "x"\n[data]\nname = "digits"\n[training]\nepochs = 1\n[model]\nname = "mlp"\n[optimizer]\nname = "sgd"'
    )
    ScanFolder(tmp_path).scan_file.write_text(scan.toml())
    assert asked(ScanFolder(tmp_path)) == Asked("x", "val_accuracy")


@pytest.mark.parametrize("reader", [summarize_folder, Follower], ids=["summarize", "status"])
def test_a_folder_without_a_scan_says_what_to_do(tmp_path: Path, reader: type[Follower]) -> None:
    with pytest.raises(ScanError, match="nnscan launch"):
        reader(ScanFolder(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b'name = "x"', b'name = "x"\nselection = 3', b"\xff", b"[["],
    ids=["empty", "half", "other", "bytes", "torn"],
)
@pytest.mark.parametrize("reader", [summarize_folder, Follower], ids=["summarize", "status"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, reader: type[Follower]) -> None:
    ScanFolder(tmp_path).scan_file.write_bytes(content)
    with pytest.raises(StoreError, match=r"scan\.toml .*The next launch of the scan writes it anew"):
        reader(ScanFolder(tmp_path))


def test_a_plan_that_is_missing_or_torn_is_named(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    for content in (None, b"PAR1"):
        if content:
            folder.plan.write_bytes(content)
        with pytest.raises(StoreError, match=r"plan\.parquet.*writes it anew"):
            read_columns(folder, ["key"])
