"""What `make demo` runs: the digits scan from nothing to a model that reads picture files, in the folder `demo`.

    python -m nnscan.demo [FOLDER]

Every step is a command that you can type yourself; each is printed before it runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import typer

from nnscan.grid import configurations
from nnscan.results.folder import ScanFolder
from nnscan.scan import load


def main() -> None:
    """Run the demo anew; end with the exit code of the first command that fails."""
    start = time.perf_counter()
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    begin_anew(place)
    scan = ScanFolder(place / "scans" / "digits")
    run(place, "launch")
    run(place, "summarize")
    run(place, "retrain-best")
    pictures = write_pictures(scan, place / "pictures")
    typer.echo(f"\nWrote ten pictures of the test set to {place}/pictures; their names say what they show.")
    for model in sorted(scan.models.iterdir()):
        run(place, "predict", *(str(path.relative_to(place)) for path in [model, *pictures]))
    typer.echo(f"\nAll of it took {time.perf_counter() - start:.0f} s. Go on in {place}: cd {place}")


def begin_anew(place: Path) -> None:
    """Make an empty folder `place`; what an earlier demo left there is removed, anything else is refused."""
    strange = [path for path in place.glob("*") if path.name not in ("scans", "pictures")]
    if strange:
        raise SystemExit(f"{place} holds more than a demo ({strange[0].name}): name another folder.")
    for name in ("scans", "pictures"):
        shutil.rmtree(place / name, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)


def run(place: Path, *arguments: str) -> None:
    """Print and run `nnscan` with `arguments` in `place`; leave the demo where it fails."""
    shown = " ".join(arguments) if len(arguments) < 5 else f"{' '.join(arguments[:3])} ... {arguments[-1]}"
    typer.secho(f"\n$ nnscan {shown}", bold=True)
    code = subprocess.run([sys.executable, "-m", "nnscan", *arguments], cwd=place, check=False).returncode  # noqa: S603
    if code:
        raise SystemExit(code)


def write_pictures(scan: ScanFolder, folder: Path) -> list[Path]:
    """Write one PNG file a digit, from the test set of a digits scan, into `folder`; return their paths."""
    from torchvision.io import write_png

    from nnscan.data import dataset

    settings = next(configurations(load(scan.scan_file))).settings
    data = dataset.load(settings["data"], root=None, cache=scan.cache, seed=settings["training"]["seed"])
    folder.mkdir()
    first = [int((data.test_labels == digit).nonzero()[0]) for digit in range(len(data.classes))]
    paths = [folder / f"digit-{digit}.png" for digit in range(len(data.classes))]
    for index, path in zip(first, paths, strict=True):
        write_png(data.test_images[index], str(path))
    return paths


if __name__ == "__main__":
    main()
