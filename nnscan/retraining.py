"""Retrains the winner of each family on the whole training set: trials like any other, on the same road."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nnscan import launch_folder
from nnscan.dotted import load_function, make_importable, signature_of
from nnscan.elsewhere import Elsewhere
from nnscan.errors import Problem, ScanError
from nnscan.identity import trial_key
from nnscan.launch_options import LaunchOptions, Outcome
from nnscan.launching import Order, Work, held, quiet, train, waited
from nnscan.plan import Plan
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.leaderboard import FamilySummary, Leader
from nnscan.results.metric import smallest_wins
from nnscan.results.progress import Follower
from nnscan.results.selection import RetrainingEpochs, retraining_epochs
from nnscan.results.summary import Counts, Retrained, curves, summarize_folder
from nnscan.running import Show
from nnscan.scan import load
from nnscan.trial import Kind, Status, Trial

PREFERENCES = ("best", "cheapest")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which configuration of a family is retrained, and for how long."""

    family: str
    leader: Leader
    epochs: int
    curve: RetrainingEpochs | None
    """The mean validation curve at that epoch; None where the user gave the epochs."""
    replicates: int = 1
    """How often it is retrained, with other draws each time."""


@dataclass(frozen=True, kw_only=True)
class RetrainOutcome:
    """How the retraining of a scan's winners ended."""

    choices: tuple[Choice, ...]
    outcome: Outcome
    retrained: tuple[Retrained, ...]
    """How the chosen ones did on the test set."""
    models: Mapping[str, Path]
    """Model folder of each family that has one."""

    @property
    def exit_code(self) -> int:
        """As of a launch."""
        return self.outcome.exit_code


@dataclass(frozen=True, kw_only=True)
class RetrainOptions:
    """What is retrained."""

    families: Sequence[str] = ()
    """Only these; none: all."""
    epochs: int = 0
    """0: to the best epoch of the winner's mean validation curve."""
    prefer: str = "best"
    """`best`, or `cheapest`: of the winner and those tied with it the one with fewest parameters."""
    replicates: int = 1
    """How often each winner is retrained; the model folder holds the first."""
    incomplete: bool = False
    """Go on although trials of the scan are pending."""

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.prefer not in PREFERENCES:
            raise ScanError("options", [Problem("--prefer", f"found {self.prefer!r}; it is best or cheapest.")])
        if self.epochs < 0:
            raise ScanError("options", [Problem("--epochs", f"found {self.epochs}; it is 1 or more.")])
        if self.replicates < 1:
            raise ScanError("options", [Problem("--replicates", f"found {self.replicates}; it is 1 or more.")])


def retrain_best(
    folder: ScanFolder, asked: RetrainOptions, options: LaunchOptions | None = None, show: Show = quiet
) -> RetrainOutcome:
    """Train the winner of each family on the whole training set, test it once, and leave a model folder.

    Parameters
    ----------
    folder : ScanFolder
        Of a scan that was launched.
    asked : RetrainOptions
    options : LaunchOptions, optional
        Where it runs; None: where the scan was last launched.
    show : callable
        Told how far the retrainings are.

    Raises
    ------
    ScanError
        Where trials are pending, a family has no winner, or an option is not one of the scan.
    DataError, BusyError, StoreError
        As a launch.
    """
    order = order_again(folder, options, show)
    with held(order) as left_alone:
        choices = choose(order.folder, asked)
        work = work_of(order.folder, choices, left_alone)
        outcome = train(order, work)
    outcome = waited(order, work, outcome)
    chosen = {_key(choice) for choice in choices}
    summary = summarize_folder(order.folder)
    return RetrainOutcome(
        choices=tuple(choices),
        outcome=outcome,
        retrained=tuple(one for one in summary.retrained if one.trial in chosen),
        models={choice.family: path for choice in choices if (path := order.folder.models / choice.family).exists()},
    )


def work_of(folder: ScanFolder, choices: Sequence[Choice], left_alone: Elsewhere) -> Work:
    """Return the retrainings of what was chosen that are neither done nor in the hands of a job."""
    plan, held = Plan.read(folder), set(left_alone.keys.to_pylist())
    wanted = (trial for trial in _retrainings(plan, choices) if trial.key not in held)
    trials = [trial for trial in wanted if not _has(folder, trial)]
    keys = pa.array([trial.key for trial in trials], pa.string())
    return Work(plan, keys, trials, Follower(folder, _table(choices)))


def order_again(folder: ScanFolder, options: LaunchOptions | None, show: Show) -> Order:
    """Return the order for a scan that was launched before: same code folder, same data, same place."""
    launches = launch_folder.read_all(folder)
    if not launches:
        raise ScanError(str(folder.path), [Problem("SCAN", "was never launched. Launch it first: nnscan launch")])
    last = launches[-1]
    make_importable(Path(last.code))
    scan = replace(load(folder.scan_file), data_root=Path(last.data_root))
    options = options or LaunchOptions(cluster=last.cluster, address=last.address, profile=last.profile)
    return Order(
        scan=scan,
        folder=ScanFolder(folder.path.absolute()),
        options=options,
        show=show,
        code=Path(last.code),
        import_path=last.import_path,
    )


def choose(folder: ScanFolder, asked: RetrainOptions) -> list[Choice]:
    """Return what is to be retrained; ScanError where the scan is not ready for it."""
    summary = summarize_folder(folder, families=asked.families, top=1)
    problems = [] if asked.incomplete else list(_missing(summary.counts))
    problems += [_no_winner(family) for family in summary.families if family.winner is None]
    if problems:
        raise ScanError("retrain-best", problems)
    return [_choice(folder, family, asked, summary.metric) for family in summary.families]


def _missing(counts: Counts) -> Iterator[Problem]:
    if left := counts.pending + counts.running:
        yield Problem(
            "SCAN",
            f"{left} of {counts.total} trials have no result yet. Launch the scan again to run them, or go on with what"
            " there is: --incomplete",
        )


def _no_winner(family: FamilySummary) -> Problem:
    message = "has no winner: no configuration has a score in every trial. `nnscan summarize` shows what failed."
    return Problem(f"family {family.name}", message)


def _choice(folder: ScanFolder, family: FamilySummary, asked: RetrainOptions, metric: str) -> Choice:
    leader = family.cheapest if asked.prefer == "cheapest" else family.winner
    assert leader is not None  # `choose` has looked
    curve = None if asked.epochs else _curve(folder, family, leader, metric)
    epochs = curve.epochs if curve else asked.epochs
    return Choice(family=family.name, leader=leader, epochs=epochs, curve=curve, replicates=asked.replicates)


def _curve(folder: ScanFolder, family: FamilySummary, leader: Leader, metric: str) -> RetrainingEpochs:
    """Return the best point of the mean validation curve of `leader`."""
    plan = Plan.read(folder)
    trials = _trials_of(plan, leader.configuration)
    found = curves(store.read_epochs(folder, trials), trials, metric)
    least = min(1, _settings(plan, leader.configuration)["training"]["epochs"])
    try:
        return retraining_epochs(found, smallest=smallest_wins(metric), least=least)
    except ValueError as error:
        message = f"{error}: rows of its trials are missing in epochs/. Say how long to train: --epochs N"
        raise ScanError("retrain-best", [Problem(f"family {family.name}", message)]) from error


def _trials_of(plan: Plan, configuration: str) -> list[str]:
    keys = plan.table.filter(pc.equal(plan.table["configuration"], configuration))["key"]
    return list(pc.unique(keys).to_pylist())


def _key(choice: Choice, replicate: int = 0) -> str:
    kind, configuration = Kind.RETRAINING, choice.leader.configuration
    return trial_key(configuration, kind=kind, epochs=choice.epochs, fold=0, replicate=replicate)


def _retrainings(plan: Plan, choices: Iterable[Choice]) -> Iterator[Trial]:
    """Yield a trial a choice and replicate; families that chose the same for as long share them."""
    by_key: dict[str, list[Choice]] = {}
    for choice in choices:
        by_key.setdefault(_key(choice), []).append(choice)
    for same in by_key.values():
        settings = _settings(plan, same[0].leader.configuration)
        _check_function(settings)
        for replicate in range(same[0].replicates):
            yield Trial(
                key=_key(same[0], replicate),
                configuration=same[0].leader.configuration,
                settings=settings,
                families=tuple(choice.family for choice in same),
                kind=Kind.RETRAINING,
                epochs=same[0].epochs,
                replicate=replicate,
            )


def _settings(plan: Plan, configuration: str) -> dict[str, Any]:
    row = pc.index(plan.table["configuration"], configuration).as_py()
    return json.loads(plan.table["settings"][row].as_py())  # type: ignore[no-any-return]


def _check_function(settings: Mapping[str, Any]) -> None:
    """Refuse a training function that cannot be told to train on everything."""
    function = settings["training"].get("function", "")
    if function and "fold" not in signature_of(load_function(function)).names:
        message = f"{function} takes no `fold`. Let it take one: None means the whole training set."
        raise ScanError("retrain-best", [Problem("training.function", message)])


def _has(folder: ScanFolder, trial: Trial) -> bool:
    """Return whether a retraining is done: its row says so, and the families' model folders hold what it left."""
    rows = store.read_trials(folder, ["trial", "status"])
    done = rows.filter(pc.and_(pc.equal(rows["trial"], trial.key), pc.equal(rows["status"], Status.COMPLETED.value)))
    leaves_models = trial.replicate == 0 and "function" not in trial.settings["training"]
    return len(done) > 0 and not (leaves_models and any(_holds_another(folder, trial, name) for name in trial.families))


def _holds_another(folder: ScanFolder, trial: Trial, family: str) -> bool:
    try:
        card = json.loads((folder.models / family / "model.json").read_bytes())
        return bool(card["provenance"]["trial"] != trial.key)
    except (OSError, ValueError, KeyError):
        return True


def _table(choices: Sequence[Choice]) -> pa.Table:
    """Return the retrainings as a plan's table, to be followed."""
    rows = [(choice, replicate) for choice in choices for replicate in range(choice.replicates)]
    return pa.table(
        {
            "key": pa.array([_key(choice, replicate) for choice, replicate in rows], pa.string()),
            "configuration": pa.array([choice.leader.configuration for choice, _ in rows], pa.string()),
            "family": pa.array([choice.family for choice, _ in rows], pa.string()),
        }
    )
