"""`nnscan retrain-best`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.options import (
    AcceptChanged,
    Address,
    Cluster,
    Download,
    Families,
    Profile,
    ScanArgument,
    ScanDirectory,
    Wait,
    Workers,
    find_scan,
)
from nnscan.cli.outcome import tell
from nnscan.cli.wording import KEY_DIGITS, clock, count, mean_and_spread, shortest
from nnscan.trial import Status

if TYPE_CHECKING:
    from nnscan.launch_options import LaunchOptions
    from nnscan.results.summary import Retrained
    from nnscan.retraining import Choice, RetrainOutcome


class Prefer(StrEnum):
    """Which of the tied configurations of a family is retrained."""

    BEST = "best"
    CHEAPEST = "cheapest"


def retrain_best(
    scan: ScanArgument = "",
    families: Families = [],  # noqa: B006  (typer reads it, nobody changes it)
    epochs: Annotated[
        int,
        typer.Option(min=0, metavar="N", show_default=False, help="Train so long. Without it: as the folds say."),
    ] = 0,
    prefer: Annotated[
        Prefer, typer.Option(help="best: the winner. cheapest: of those tied with it, the one with fewest parameters.")
    ] = Prefer.BEST,
    replicates: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Retrain each N times, with other draws. The first leaves the model."),
    ] = 1,
    incomplete: Annotated[bool, typer.Option("--incomplete", help="Go on although trials are pending.")] = False,
    cluster: Annotated[
        Cluster | None,
        typer.Option(show_default=False, help="Where to train. Without it: where the scan was last launched."),
    ] = None,
    address: Address = "",
    profile: Profile = "",
    workers: Workers = 0,
    scan_dir: ScanDirectory = Path("scans"),
    accept_changed: AcceptChanged = False,
    download: Download = False,
    wait: Wait = False,
) -> None:
    """Train the winner of each family on the whole training set, and test it once.

    Leaves a model folder a family in scans/NAME/models: weights, how to rebuild the network, what it was
    trained on, and its predictions of the test set. It stands alone: copy it to whoever needs the model.

    \b
    Examples:
      nnscan retrain-best
      nnscan retrain-best mnist --family CNN --epochs 20
      nnscan retrain-best mnist --prefer cheapest
      nnscan retrain-best mnist --replicates 5      the test accuracy with its spread
      nnscan retrain-best mnist --cluster slurm --wait
    """
    from nnscan.allocator import keep_memory
    from nnscan.api import LaunchKeywords, as_launched
    from nnscan.cli.live import showing_launch
    from nnscan.retraining import RetrainOptions
    from nnscan.retraining import retrain_best as retrain

    folder = find_scan(scan, scan_dir)
    asked = RetrainOptions(
        families=families, epochs=epochs, prefer=prefer.value, replicates=replicates, incomplete=incomplete
    )
    keywords = LaunchKeywords(workers=workers, accept_changed=accept_changed, download=download, wait=wait)
    if cluster is not None:
        keywords = {**keywords, "cluster": cluster.value, "address": address, "profile": profile}
    options = as_launched(folder, **keywords)
    if options.cluster == "inline":
        keep_memory()  # this process may train itself
    with showing_launch(folder, options, f"Starting the retraining of {folder.path.name} ...") as show:
        ended = retrain(folder, asked, options, show)
    tell_retrained(ended, options)
    raise typer.Exit(ended.exit_code)


def tell_retrained(ended: RetrainOutcome, options: LaunchOptions) -> None:
    """Print what was retrained and how it tests, then how it went."""
    for choice in ended.choices:
        typer.echo("\n".join(result_lines(choice, ended)))
    tell(ended.outcome, options, "retraining")


def result_lines(choice: Choice, ended: RetrainOutcome) -> Iterator[str]:
    """Yield which configuration of a family was retrained and for how long, how it tests, and where its model lies."""
    values = ", ".join(f"{path} {value}" for path, value in choice.leader.hyperparameters.items())
    yield f"{choice.family}: {choice.leader.configuration[:KEY_DIGITS]}  {values}"
    yield f"  {_length(choice)}"
    yield from (f"  {_test(one)}" for one in ended.retrained if one.family == choice.family)
    if choice.family in ended.models:
        yield f"  model in {shortest(ended.models[choice.family])}"


def _length(choice: Choice) -> str:
    epochs = count(choice.epochs, "epoch")
    if choice.curve is None:
        return f"{epochs}, as asked"
    why = "where its folds are best on average" if choice.epochs else "as in the scan"
    return f"{epochs}, {why}: {mean_and_spread(choice.curve.mean, choice.curve.std)}"


def _test(one: Retrained) -> str:
    if one.status != Status.COMPLETED.value:
        return f"{one.status}: {one.cause}"
    if math.isnan(one.test_accuracy):
        return f"trained in {clock(one.seconds)}; its function tells no test result"
    accuracy = mean_and_spread(one.test_accuracy, one.test_accuracy_std)
    times = "" if one.replicates == 1 else f", mean of {one.replicates} replicates"
    return f"test accuracy {accuracy}, test loss {one.test_loss:.4f}{times}; trained in {clock(one.seconds)}"
