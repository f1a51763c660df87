"""`nnscan samples`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnscan.cli.options import DataRoot, Download, ScanDirectory, find_scan
from nnscan.errors import Problem, ScanError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnscan.scan import Scan


def samples(
    scan: Annotated[
        str,
        typer.Argument(
            metavar="SCAN",
            show_default=False,
            help="A scan folder, the name of a scan, or a scan file. Without it: the scan launched last.",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", show_default=False, help="Write to this file. Without it: NAME-samples.png."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=400, metavar="N", help="Images.")] = 12,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", show_default=False, help="Other images. Without it: training.seed."),
    ] = None,
    family: Annotated[
        str,
        typer.Option(metavar="NAME", show_default=False, help="With the data of this family. Without it: the first."),
    ] = "",
    overrides: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", show_default=False, help="Replace a value of the scan file."),
    ] = [],  # noqa: B006  (typer reads it, nobody changes it)
    scan_dir: ScanDirectory = Path("scans"),
    data_root: DataRoot = "",
    download: Download = False,
) -> None:
    """Draw training images beside what a network gets of them: augmented and normalised, with classes and sizes.

    The scan need not have been launched. The data settings are those of a family's first configuration; each image on
    the right is scaled for display from its own least to its own largest value.

    \b
    Examples:
      nnscan samples jobs/cifar10_cnn.toml --data-root /data
      nnscan samples mnist --set data.augmentation.crop_padding=4 --output padded.png
    """
    from nnscan.scan import load

    asked = load(_scan_file(scan, scan_dir), overrides=overrides, data_root=data_root or None)
    target = _target(output or Path(f"{asked.name}-samples.png"))
    settings = _settings(asked, family)
    _write(target, _drawn(asked, settings, _Wanted(count, seed, scan_dir / ".cache", download)))
    typer.echo(target)


@dataclass(frozen=True)
class _Wanted:
    """What was typed."""

    count: int
    seed: int | None
    cache: Path
    download: bool


def _scan_file(scan: str, scans: Path) -> Path:
    """Return the scan file that an argument means: of a scan that was launched, else a file or a name in jobs/."""
    from nnscan.scan import find_scan_file

    known = [Path(scan) / "scan.toml", scans / scan / "scan.toml"] if scan else []
    found = next((path for path in known if path.is_file()), None)
    if found:
        return found
    return find_scan_file(scan) if scan else find_scan("", scans).scan_file


def _target(path: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise ScanError("options", [Problem("--output", f"found {path}; accepted: a name that ends with .png")])
    return path


def _settings(scan: Scan, family: str) -> dict[str, Any]:
    """Return the first configuration of a family, the first where none is named."""
    from nnscan.grid import configurations

    if family and family not in scan.families:
        known = ", ".join(scan.families)
        raise ScanError(scan.source, [Problem("--family", f"there is no {family!r}. There are: {known}.")])
    settings = next(one.settings for one in configurations(scan) if one.family == (family or scan.families[0]))
    if not settings["data"].get("name"):
        problem = f"{settings['training']['function']} has its data for itself: nnscan does not read them."
        raise ScanError(scan.source, [Problem("training.function", problem)])
    return dict(settings)


def _drawn(scan: Scan, settings: Mapping[str, Any], wanted: _Wanted) -> bytes:
    """Return the sheet as the content of a PNG file; data are decoded where the cache lacks them."""
    from nnscan.data.dataset import load
    from nnscan.data.samples import Source, draw, sheet

    data, own = settings["data"], settings["training"]["seed"]
    source = Source(data, Path(scan.data_root or ""), own)
    dataset = load(data, root=source.root, cache=wanted.cache, seed=own, download=wanted.download)
    found = draw(dataset, source, wanted.count, own if wanted.seed is None else wanted.seed)
    content = io.BytesIO()
    sheet(_title(scan, data), found).save(content, "PNG")
    return content.getvalue()


def _title(scan: Scan, data: Mapping[str, Any]) -> str:
    named = {name: value for name, value in data["augmentation"].items() if value}
    switched = ", ".join(name if value is True else f"{name} {value}" for name, value in named.items())
    return f"{scan.name}: {data['name']}, normalization {data['normalization']}, {switched or 'no augmentation'}"


def _write(path: Path, content: bytes) -> None:
    from nnscan.results.folder import write_atomically

    try:
        write_atomically(path, content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}. Name another file with --output.") from error
