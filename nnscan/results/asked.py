"""What readers of results need of the scan file, as its last launch left it in the scan folder."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from nnscan.errors import Problem, ScanError, StoreError
from nnscan.results.folder import ScanFolder


@dataclass(frozen=True)
class Asked:
    """What a scan is called, and what ranks in it."""

    name: str
    metric: str


def asked(folder: ScanFolder) -> Asked:
    """Return what `scan.toml` says; the whole file would take the reader of scan files, and torch for some.

    Raises
    ------
    ScanError
        Where nothing was launched in the folder.
    StoreError
        Where the file does not read.
    """
    try:
        tables = tomllib.loads(folder.scan_file.read_text(encoding="utf-8"))
        return Asked(str(tables["name"]), str(tables["selection"]["metric"]))
    except FileNotFoundError:
        problem = Problem("SCAN", "nothing was launched in this folder yet. Start with: nnscan launch SCAN")
        raise ScanError(str(folder.path), [problem]) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise StoreError(
            f"cannot read {folder.scan_file} ({found}). The next launch of the scan writes it anew."
        ) from error
