"""nnscan from Python: what the commands do, as functions that return data and print nothing.

Where a function takes `scan`, it takes a `Scan`, a scan folder, the name of a scan under `scans`, or a scan file;
without one it means the scan that was launched last. `launch`, `dry_run` and `retrain_best` take the fields of
`LaunchOptions` as keywords: `cluster`, `address`, `profile`, `workers`, `limit`, `trial`, `fuse`, `retry_failed`,
`accept_changed`, `download`, `wait`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict, Unpack

from nnscan.errors import Problem, ScanError
from nnscan.launch_options import LaunchOptions
from nnscan.results.folder import ScanFolder

if TYPE_CHECKING:
    import pyarrow as pa

    from nnscan.cancelling import Cancellation
    from nnscan.estimate import Estimate
    from nnscan.launch_options import Outcome
    from nnscan.prediction import Prediction
    from nnscan.report.writing import Report
    from nnscan.results.evaluation import ModelEvaluation
    from nnscan.results.progress import Progress
    from nnscan.results.summary import Summary
    from nnscan.retraining import RetrainOutcome
    from nnscan.running import Show
    from nnscan.scan import Scan

SCANS = Path("scans")
"""Where scan folders lie, unless another folder is named."""

ScanLike: TypeAlias = "Scan | str | Path | None"


class LaunchKeywords(TypedDict, total=False):
    """The fields of `nnscan.launch_options.LaunchOptions`, which explains them."""

    cluster: str
    address: str
    profile: str
    workers: int
    limit: int
    trial: str
    retry_failed: bool
    accept_changed: bool
    download: bool
    wait: bool
    fuse: str


def launch(
    scan: ScanLike = None,
    *,
    folder: str | Path = "",
    show: Show | None = None,
    **options: Unpack[LaunchKeywords],
) -> Outcome:
    """Train every trial of `scan` that the scan folder does not have yet; return how that ended.

    Parameters
    ----------
    scan
        What `load` returns, or what it takes. None: the digits scan that comes along.
    folder
        The scan folder; without one `scans/<name of the scan>`.
    show
        Called a few times a second with how far the launch is: `Decoding` while data are decoded, then `Progress`.

    Raises
    ------
    NnscanError
        Where something is wrong before the first trial starts (`ScanError`, `DataError`, `BusyError`), or the
        back-end fails (`LauncherError`). A trial that fails is a row, never an exception.
    """
    from nnscan import launching

    scan = _scan(scan)
    return launching.launch(scan, _home(scan, folder), LaunchOptions(**options), show or launching.quiet)


def dry_run(scan: ScanLike = None, *, folder: str | Path = "", **options: Unpack[LaunchKeywords]) -> Estimate:
    """Return what `launch` would do: axes, configurations, trials, what is done already, seconds. Needs no data."""
    from nnscan import estimate

    scan = _scan(scan)
    return estimate.dry_run(scan, _home(scan, folder), LaunchOptions(**options))


def status(scan: ScanLike = None) -> Progress:
    """Return how far a scan is: trials done, running, failed and pending, the best of each family so far."""
    from nnscan.results import progress

    return progress.Follower(scan_folder(scan)).poll()


def watch(scan: ScanLike = None, *, show: Show | None = None) -> Progress:
    """Return how far a scan is once nothing of it runs or may start, wherever it was launched: jobs are waited for.

    Parameters
    ----------
    show
        Called a few times a second with how far it is.
    """
    from nnscan import launching, scheduled, watching

    folder = scan_folder(scan)
    return watching.watch(folder, show or launching.quiet, lambda: scheduled.look(folder))[0]


def cancel(scan: ScanLike = None, *, families: Sequence[str] = (), trials: Sequence[str] = ()) -> Cancellation:
    """End a scan that runs or is queued, or leave some of its families and trials out, until its next launch.

    Parameters
    ----------
    families, trials
        Only these; trials by their keys, or how they begin. Without any, the whole scan.

    Raises
    ------
    ScanError
        Where there is no such family or trial; names the nearest.
    """
    from nnscan import cancelling

    return cancelling.cancel(scan_folder(scan), families, trials)


def summarize(
    scan: ScanLike = None, *, metric: str = "", families: Sequence[str] = (), by: str = "", top: int | None = None
) -> Summary:
    """Return the leaderboards of a scan: score, spread and ties of each configuration, effects of the axes, failures.

    Parameters
    ----------
    metric
        Ranks; without one `selection.metric` of the scan file.
    families
        Only these; without any, all of the scan.
    by
        A hyperparameter by its dotted path: a leaderboard for each of its values.
    top
        Rows of a leaderboard; None for all.
    """
    from nnscan.results import summary

    return summary.summarize_folder(scan_folder(scan), metric=metric, families=families, by=by, top=top)


def retrain_best(
    scan: ScanLike = None,
    *,
    families: Sequence[str] = (),
    epochs: int = 0,
    prefer: str = "best",
    replicates: int = 1,
    incomplete: bool = False,
    show: Show | None = None,
    **options: Unpack[LaunchKeywords],
) -> RetrainOutcome:
    """Train the winner of each family on the whole training set, test it once, and leave a model folder.

    Parameters
    ----------
    families
        Only these; without any, all of the scan.
    epochs
        How long to train; 0: to the best epoch of the winner's mean validation curve.
    prefer
        "best", or "cheapest": of the winner and those tied with it, the one with fewest parameters.
    replicates
        How often each winner is retrained, with other draws; the first leaves the model folder.
    incomplete
        Go on although trials of the scan are pending.
    options
        Where `cluster` is not named, it runs where the scan was last launched.

    Raises
    ------
    ScanError
        Where trials are pending, or a family has no winner.
    """
    from nnscan import launching, retraining

    folder = scan_folder(scan)
    asked = retraining.RetrainOptions(
        families=families, epochs=epochs, prefer=prefer, replicates=replicates, incomplete=incomplete
    )
    return retraining.retrain_best(folder, asked, as_launched(folder, **options), show or launching.quiet)


def as_launched(folder: ScanFolder, **options: Unpack[LaunchKeywords]) -> LaunchOptions:
    """Return `options`, and where they name no cluster, that of the last launch of a scan."""
    from nnscan import launch_folder

    launches = launch_folder.read_all(folder)
    if "cluster" not in options and launches:
        last = launches[-1]
        options = {"cluster": last.cluster, "address": last.address, "profile": last.profile, **options}
    return LaunchOptions(**options)


def evaluate(model: str | Path, *, top: int = 10) -> ModelEvaluation:
    """Return how well a retrained model did in its test, as its folder tells: needs neither data nor torch.

    Parameters
    ----------
    top
        So many of the worst and of the most uncertain examples.

    Raises
    ------
    DataError
        Where there is no model, or it was never tested.
    """
    from nnscan.results import evaluation

    return evaluation.evaluate(Path(model), top)


def predict(model: str | Path, files: Sequence[str | Path]) -> list[Prediction]:
    """Return what a retrained model says of image files: a class and the probability of each class."""
    from nnscan import prediction

    return prediction.predict(Path(model), [Path(file) for file in files])


def write_report(scan: ScanLike = None, *, output: str | Path = "", figures: str | Path = "") -> Report:
    """Write the report of a scan, every table and figure in one page that stands alone; return where it lies.

    Parameters
    ----------
    output
        The page; without one `report.html` in the scan folder.
    figures
        Folder for each figure as PNG and SVG; without one only the page is written.

    Raises
    ------
    ScanError
        Where no trial has ended yet.
    StoreError
        Where a file of the scan does not read, or the report cannot be written.
    """
    from nnscan.report import writing

    page, sheets = (Path(place) if place else None for place in (output, figures))
    return writing.write_report(scan_folder(scan), output=page, figures=sheets)


def read_trials(scan: ScanLike = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the table with one row a trial, those of running workers included (`docs/tables.md` has the columns)."""
    from nnscan.results import store

    return store.read_trials(scan_folder(scan), columns)


def read_epochs(scan: ScanLike = None, trials: Sequence[str] | None = None) -> pa.Table:
    """Read the table with one row a trial and epoch; of all trials, or of those whose keys are given."""
    from nnscan.results import store

    return store.read_epochs(scan_folder(scan), trials)


def read_steps(scan: ScanLike = None, trials: Sequence[str] | None = None) -> pa.Table:
    """Read the table with one row a value of a step, where `training.steps` asks; of all trials, or of those given."""
    from nnscan.results import store

    return store.read_steps(scan_folder(scan), trials)


def scan_folder(scan: ScanLike = None, *, scans: Path = SCANS) -> ScanFolder:
    """Return the scan folder that `scan` means (module docstring); it exists.

    Raises
    ------
    ScanError
        Where there is no such scan; names the nearest.
    """
    if scan is None:
        return last_launched(scans)
    if not isinstance(scan, str | Path):
        return _existing(scans / scan.name, scans)
    if _is_scan_folder(Path(scan)):
        return ScanFolder(Path(scan))
    if _is_scan_folder(scans / scan):
        return ScanFolder(scans / scan)
    if Path(scan).is_file():
        from nnscan.scan import load  # pydantic: 0.1 s that reading results does without

        return _existing(scans / load(scan).name, scans)
    raise _no_such_scan(str(scan), scans)


def last_launched(scans: Path = SCANS) -> ScanFolder:
    """Return the folder of the scan that was launched last, of all that lie in `scans`."""
    launches = [(path.name, path.parent.parent) for path in scans.glob("*/launches/*")]  # names sort by time
    if not launches:
        message = "no scan was launched here yet. Start one: nnscan launch (or name its folder with --scan-dir)"
        raise ScanError(str(scans), [Problem("SCAN", message)])
    return ScanFolder(max(launches)[1])


def _scan(scan: ScanLike) -> Scan:
    from nnscan.scan import find_scan_file, load

    if scan is None:
        return load(None)
    return load(find_scan_file(str(scan))) if isinstance(scan, str | Path) else scan


def _home(scan: Scan, folder: str | Path) -> ScanFolder:
    return ScanFolder(Path(folder) if folder else SCANS / scan.name)


def _is_scan_folder(path: Path) -> bool:
    return ScanFolder(path).launches.is_dir()


def _existing(path: Path, scans: Path) -> ScanFolder:
    if not _is_scan_folder(path):
        raise _no_such_scan(path.name, scans)
    return ScanFolder(path)


def _no_such_scan(name: str, scans: Path) -> ScanError:
    known = sorted(path.parent.name for path in scans.glob("*/launches"))
    nearest = get_close_matches(name, known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    there = f"There are: {', '.join(known)}." if known else f"Nothing was launched in {scans} yet: nnscan launch"
    return ScanError(str(scans), [Problem("SCAN", f"no scan {name!r}.{hint} {there}")])
