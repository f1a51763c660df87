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
    typer.echo(f"\nWrote ten pictures of the test set to {place / 'pictures'}; a name says what the picture shows.")
    names = [str(path.relative_to(place)) for path in pictures]
    for model in sorted(scan.models.iterdir()):
        run(place, "predict", str(model.relative_to(place)), *names, shown="pictures/*.png")
    typer.echo(f"\nAll of it took {time.perf_counter() - start:.0f} s. What it left lies in {place}.")


def begin_anew(place: Path) -> None:
    """Make an empty folder `place`; what an earlier demo left there is removed, anything else is refused."""
    strange = [path for path in place.glob("*") if path.name not in ("scans", "pictures")]
    if strange:
        raise SystemExit(f"{place} holds more than a demo ({strange[0].name}): name another folder.")
    for name in ("scans", "pictures"):
        shutil.rmtree(place / name, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)


def run(place: Path, command: str, *arguments: str, shown: str = "") -> None:
    """Print and run a command of nnscan in `place`; leave the demo with its exit code where it fails.

    `shown` is printed for all arguments but the first.
    """
    typer.secho(
        f"\n$ nnscan {' '.join([command, *(arguments[:1] if shown else arguments), shown])}".rstrip(), bold=True
    )
    process = subprocess.Popen([sys.executable, "-m", "nnscan", command, *arguments], cwd=place)  # noqa: S603
    try:
        code = process.wait()
    except KeyboardInterrupt:  # Ctrl-C reached the command, too: it puts its things in order and ends with 130
        code = process.wait()
    if code:
        raise SystemExit(code)


def write_pictures(scan: ScanFolder, folder: Path) -> list[Path]:
    """Write one PNG file a digit, from the test set of a digits scan, into `folder`; return their paths."""
    from PIL import Image

    from nnscan.data import dataset

    settings = next(configurations(load(scan.scan_file))).settings
    data = dataset.load(settings["data"], root=None, cache=scan.cache, seed=settings["training"]["seed"])
    folder.mkdir()
    first = [int((data.test_labels == digit).nonzero()[0]) for digit in range(len(data.classes))]
    paths = [folder / f"digit-{digit}.png" for digit in range(len(data.classes))]
    for index, path in zip(first, paths, strict=True):
        Image.fromarray(data.test_images[index, 0].numpy()).save(path)  # one channel: grey
    return paths


if __name__ == "__main__":
    main()
