"""24 configurations of MP_1 over an image folder as whole processes: nnscan, a resident loop by hand, Ray Tune.

MP_1 49152-128-128-2 at 128 x 128 pixels, SGD and Adam x 12 learning rates, batch 32, 80 % of the images to train on.
Ray Tune trains --points of the configurations with ImageFolder and a DataLoader, scaled to all. With --images only the
first of each class are taken, and with --enlarge written anew at that size: decoding is what costs then.

usage: python benchmarks/folder_grid.py FOLDER [--enlarge 640] [--images 600] [--epochs 5] [--points 4] [--repeat N]
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

from grids import WAYS, Way, by_hand, launched, measure, options, table
from peers.folder_grid import BATCH_SIZE, LEARNING_RATES, POINTS, SIZE, WIDTH
from PIL import Image

SCAN = f"""
name = "grid"
[data]
name = "image_folder"
root = "{{folder}}"
size = {SIZE}
[validation]
holdout = 0.2
[training]
epochs = {{epochs}}
batch_size = {BATCH_SIZE}
[[grid]]
family = "MP_1"
model.name = "mlp"
model.width = {WIDTH}
model.depth = 2
optimizer.name = ["sgd", "adam"]
optimizer.learning_rate = {LEARNING_RATES}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=lambda path: Path(path).absolute())
    parser.add_argument("--enlarge", type=int, default=0, metavar="PIXELS")
    parser.add_argument("--images", type=int, default=0, help="of each class; without it all")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--points", type=int, default=4, help="that Ray Tune trains")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--options", type=options, default=(), help="more for `nnscan launch`")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as written:
        folder = subset(asked.folder, Path(written), asked.images, asked.enlarge) if asked.images else asked.folder
        measured(asked, folder)


def measured(asked: argparse.Namespace, folder: Path) -> None:
    scan = SCAN.format(folder=folder, epochs=asked.epochs)
    scaled_by = len(POINTS) / asked.points
    ways = [
        Way("nnscan", partial(launched, scan, *WAYS["nnscan"], *asked.options)),
        Way("resident loop by hand", partial(by_hand, "folder_grid.py", folder, asked.epochs, len(POINTS))),
    ]
    if not asked.without_ray:
        peer = partial(by_hand, "ray_tune_folder.py", folder, asked.epochs, asked.points, scaled_by=scaled_by)
        ways.append(Way("Ray Tune, ImageFolder, DataLoader", peer, scaled_by))
    measure(ways, asked.repeat, once=["Ray Tune, ImageFolder, DataLoader"])
    count = sum(1 for _ in (folder / "train").glob("*/*"))
    pixels = f", enlarged to {asked.enlarge} pixels" if asked.enlarge else ""
    table(f"{len(POINTS)} configurations of MP_1, {asked.epochs} epochs of {count:,} files{pixels}", ways)


def subset(folder: Path, written: Path, images: int, pixels: int) -> Path:
    """Return a folder with the first images of each class, scaled to so many pixels of a side where asked."""
    for part in ("train", "test"):
        for old in sorted((folder / part).iterdir()):
            new = written / part / old.name
            new.mkdir(parents=True)
            for file in islice(sorted(old.iterdir()), images if part == "train" else 8):
                image = Image.open(file).convert("RGB")
                image.resize((pixels, pixels) if pixels else image.size).save(new / f"{file.stem}.jpg", quality=90)
    return written


if __name__ == "__main__":
    main()
