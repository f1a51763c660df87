"""Tells what retrained winners reach beside what was published of the same networks, as Markdown.

python benchmarks/published.py [SCANS]

SCANS is the folder of the scan folders, `scans` without one. Those that are not there are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from results import row, table, tested

import nnscan
from nnscan.results.folder import ScanFolder
from nnscan.results.summary import Retrained

HEADS = ("study", "scan", "family", "published", "to reach", "test accuracy", "epochs", "precision")


@dataclass(frozen=True)
class Study:
    """A network of a study, and how good it was."""

    study: str
    scan: str
    family: str
    published: str
    """Accuracy on the test set, but where said otherwise."""
    reach: float


STUDIES = (
    Study("Tortar, MP", "muffin_chihuahua_winners", "MP", "0.7783", 0.78),
    Study("Tortar, CNN", "muffin_chihuahua_winners", "CNN", "0.9453", 0.945),
    Study("Tortar, CNN", "muffin_cnn_winner", "muffin_cnn_winner", "0.9453", 0.945),
    Study("Tortar, CNN", "muffin_chihuahua_cnn", "muffin_chihuahua_cnn", "0.9453", 0.945),
    Study("Gahtidis, MNIST", "mnist_sigmoid", "published", "0.90", 0.93),
    Study("Gahtidis, MNIST", "mnist_sigmoid", "larger-steps", "0.90", 0.93),
    Study("Gahtidis, CIFAR-10", "cifar10_batch_size", "CNN", "0.630", 0.65),
    Study("Gahtidis, CIFAR-10", "cifar10_batch_size", "improved", "0.630", 0.65),
    Study("Cicchese, MLP", "mnist_skip_mlp", "MLP", "0.9733", 0.975),
    Study("Cicchese, skip-MLP", "mnist_skip_mlp", "SkipMLP", "0.9756", 0.978),
    Study("Cicchese, CNN", "cifar10_fully_convolutional", "published", "0.761", 0.78),
    Study("Cicchese, CNN", "cifar10_fully_convolutional", "improved", "0.761", 0.78),
    Study("Wright, CIFARNet", "cifar10_cifarnet", "published", "about 0.75 (validation)", 0.77),
    Study("Wright, CIFARNet", "cifar10_cifarnet", "improved", "about 0.75 (validation)", 0.77),
    Study("EPFL, pair", "mnist_pairs_reduced", "Pair", "0.834 ± 0.016", 0.834),
    Study("EPFL, siamese 2", "mnist_pairs_reduced", "Siamese2", "0.929 ± 0.004", 0.929),
    Study("EPFL, siamese 10", "mnist_pairs_reduced", "Siamese10", "0.977 ± 0.006", 0.977),
)
"""What stands in the studies' own pages, or follows from the results that they published."""


def main(scans: Path) -> None:
    print("\n".join(table(HEADS)))
    for study in STUDIES:
        for line in lines(study, scans / study.scan):
            print(line)


def lines(study: Study, folder: Path) -> Iterator[str]:
    """Yield a line for each time that the winner was retrained."""
    if not (folder / "plan.parquet").exists():
        return
    for one in nnscan.summarize(folder).retrained:
        if one.family == study.family and one.status == "completed":
            yield row(
                [
                    study.study,
                    study.scan,
                    study.family,
                    study.published,
                    f"{study.reach:g}",
                    tested(one, ScanFolder(folder)),
                    one.epochs,
                    precision(folder, one),
                ]
            )


def precision(folder: Path, one: Retrained) -> str:
    trials = nnscan.read_trials(folder, ["trial", "training.precision"])
    return str(trials.filter(pc.equal(trials["trial"], one.trial))["training.precision"][0])


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "scans"))
