"""What a scan has shown: a leaderboard a family, the effect of each axis, what went wrong, and the retrained winners.

`summarize` is a pure function of tables; `summarize_folder` reads of a scan folder the columns that it needs. Families
come from the plan: points that are no longer in the grid stay in the store and out of the summary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.errors import Problem, ScanError
from nnscan.plan import Plan, read_columns
from nnscan.results import metric as metrics
from nnscan.results import store
from nnscan.results.asked import asked
from nnscan.results.folder import ScanFolder
from nnscan.results.key_index import KeyIndex
from nnscan.results.leaderboard import VALIDATION, Family, FamilySummary
from nnscan.results.schema import Schemas, read_schemas
from nnscan.results.scores import Planned, State, codes_of, family_scores, floats, join
from nnscan.results.selection import Floats, Integers
from nnscan.results.wording import NOT_FINITE
from nnscan.trial import Kind, Status

PLAN_COLUMNS = ("key", "configuration", "family", "fold", "replicate")
"""Of plan.parquet, as far as a summary reads it."""

TRIALS_COLUMNS = (
    *("trial", "configuration", "kind", "status", "failure", "error", "attempt", "metric", "score", "best_epoch"),
    *("parameters", "seconds", "epochs", "replicate", "test_loss", "test_accuracy"),
)
"""Of trials/, as far as a summary reads it; hyperparameters come on top."""

ENCODED = ("kind", "status", "failure", "error", "metric")
"""Of these the columns of text that have few values."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many trials of the plan are in which state; a trial in two families counts once."""

    total: int
    completed: int
    diverged: int
    failed: int
    running: int
    pending: int


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Trials that failed or diverged for one cause."""

    status: str
    failure: str
    """Of failed ones: "config", "out of memory", "lost", "other"."""
    cause: str
    """First line of the error, or that a loss was not finite."""
    count: int
    trial: str
    """Key of one of them."""
    configuration: str


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """A winner, trained on the whole training set and tested once; with replicates the means over these."""

    family: str
    configuration: str
    trial: str
    """Of its first replicate."""
    status: str
    cause: str
    """First line of the error, "" where it completed."""
    epochs: int
    replicates: int
    """How often it was retrained."""
    test_loss: float
    test_accuracy: float
    """Fraction; NaN where it was not tested."""
    test_accuracy_std: float
    """Over the replicates, of a sample; NaN of one."""
    parameters: int | None
    seconds: float
    """Of one replicate."""
    validation_mean: float
    """Its score in the scan."""
    validation_std: float
    winner: bool
    """Whether the configuration is the winner still."""
    test_calibration_error: float = math.nan
    """Of the first replicate, a fraction; NaN where its model folder is not there to tell."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a scan has shown so far."""

    scan: str
    metric: str
    smallest: bool
    """Whether the smallest value of the metric is best."""
    counts: Counts
    families: tuple[FamilySummary, ...]
    troubles: tuple[Trouble, ...]
    """Most frequent first."""
    retrained: tuple[Retrained, ...]


def summarize(
    plan: pa.Table,
    trials: pa.Table,
    *,
    metric: str,
    scan: str = "",
    families: Sequence[str] = (),
    by: str = "",
    top: int | None = None,
    running: Collection[str] = (),
    epochs: pa.Table | None = None,
) -> Summary:
    """Return what the tables show.

    Parameters
    ----------
    plan : table
        `PLAN_COLUMNS`: a row a (trial, family).
    trials : table
        `TRIALS_COLUMNS` and any hyperparameters, those of `VALIDATION` among them; one row a trial.
    metric : str
        A trial's score is this metric at its best epoch.
    scan : str
        Name of the scan.
    families : sequence of str
        Only these; none means all.
    by : str
        Hyperparameter that groups the leaderboards, by dotted path.
    top : int, optional
        Rows of a leaderboard; None for all.
    running : collection of str
        Keys of trials that run now.
    epochs : table, optional
        The epochs table, needed where trials were scored by another metric.

    Raises
    ------
    ScanError
        Where a family, the metric or `by` is not one of the scan.
    """
    planned = join(_in_families(plan, families), trials, running=running)
    scores, best_epochs = trial_scores(trials, metric, epochs)
    smallest = metrics.smallest_wins(metric)

    def family(code: int) -> Family:
        return Family(family_scores(planned, code, trials, scores, best_epochs), trials, smallest)

    with ThreadPoolExecutor(pa.cpu_count()) as pool:  # numpy and Arrow leave Python to others while they work
        found = list(pool.map(family, range(len(planned.family_names))))
    _check_by(by, found)
    return Summary(
        scan=scan,
        metric=metric,
        smallest=smallest,
        counts=_counts(planned),
        families=tuple(family.summary(by, top) for family in found),
        troubles=_troubles(planned, trials),
        retrained=tuple(_retrained(found, trials)),
    )


def _in_families(plan: pa.Table, families: Sequence[str]) -> pa.Table:
    """The rows of the plan that belong to `families`."""
    if not families:
        return plan
    known = pc.unique(plan["family"]).to_pylist()
    problems = [Problem("--family", _unknown("family", name, known)) for name in families if name not in known]
    if problems:
        raise ScanError("summary", problems)
    return plan.filter(pc.is_in(plan["family"], value_set=pa.array(list(families), pa.string())))


def _check_by(by: str, families: Sequence[Family]) -> None:
    known = sorted({varied.path for family in families for varied in family.axes})
    if by and by not in known:
        raise ScanError("summary", [Problem("--by", _unknown("axis", by, known))])


def _unknown(word: str, name: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"no {word} {name!r}.{hint} There are: {', '.join(known) or 'none'}."


def trial_scores(trials: pa.Table, metric: str, epochs: pa.Table | None = None) -> tuple[Floats, Floats]:
    """Return score and best epoch of each row of `trials`, NaN where there is none.

    Taken from the rows where they were scored by `metric`, else from the epochs table where it is given.
    """
    same = pc.fill_null(pc.equal(trials["metric"], metric), False).to_numpy()
    scores = np.where(same, floats(trials["score"]), math.nan)
    best_epochs = np.where(same, floats(trials["best_epoch"]), math.nan)
    if epochs is not None and not same.all():
        keys, values, bests = best_of_epochs(epochs, metric)
        rows = KeyIndex(trials["trial"].combine_chunks()).places(keys.dictionary)[keys.indices.to_numpy()]
        other = (rows >= 0) & ~same[rows]
        scores[rows[other]], best_epochs[rows[other]] = values[other], bests[other]
    return scores, best_epochs


def best_of_epochs(epochs: pa.Table, metric: str) -> tuple[pa.DictionaryArray, Floats, Floats]:
    """Return keys of trials, and of each the best value of `metric` and its epoch, the first on ties.

    Trials that have no value, or NaN only, are left out.
    """
    values, numbers = floats(epochs[metric]), floats(epochs["epoch"])
    trials, keys = codes_of(epochs["trial"])
    known = np.flatnonzero(~np.isnan(values))
    counts = np.bincount(trials[known], minlength=1)[trials[known]]
    rivals = known[counts > 1]
    order = rivals[np.lexsort((numbers[rivals], _sign(metric) * values[rivals], trials[rivals]))]
    best = np.concatenate([known[counts == 1], order[np.unique(trials[order], return_index=True)[1]]])
    return pa.DictionaryArray.from_arrays(pa.array(trials[best]), keys), values[best], numbers[best]


def best_rows(epochs: pa.Table, metric: str) -> pa.Table:
    """Return the best row of those of an attempt that stand beside each other, on ties the earliest epoch.

    None where all are null or NaN. The columns `trial` and `writer` are dictionaries.
    """
    numbers, starts = epochs["epoch"].to_numpy(), _starts(epochs)
    rows = _least(_sign(metric) * floats(epochs[metric]), starts)
    runs = np.searchsorted(starts, rows, side="right")
    earliest = _least(numbers[rows], np.flatnonzero(np.diff(runs, prepend=0)))
    return epochs.take(pa.array(rows[earliest]))


def _starts(epochs: pa.Table) -> Integers:
    """Return the first row of each run of rows of one attempt."""
    differs = np.zeros(len(epochs), dtype=bool)
    differs[:1] = True
    for codes in (epochs[name].combine_chunks().indices.fill_null(-1).to_numpy() for name in ("trial", "writer")):
        differs[1:] |= codes[1:] != codes[:-1]
    return np.flatnonzero(differs)


def _least(values: npt.NDArray[Any], starts: Integers) -> Integers:
    """Return the rows that have the least value of their run; NaN is none."""
    if not len(values):
        return starts
    least = np.repeat(np.fmin.reduceat(values, starts), np.diff(starts, append=len(values)))
    rows: Integers = np.flatnonzero(values == least)
    return rows


def _sign(metric: str) -> int:
    """Return what makes the best value the smallest one."""
    return 1 if metrics.smallest_wins(metric) else -1


def curves(epochs: pa.Table, trials: Iterable[str], metric: str) -> list[Floats]:
    """Return the curve of `metric` of each trial: the index is the epoch, NaN where it has no value."""
    return [_curve(epochs.filter(pc.equal(epochs["trial"], trial)), metric) for trial in trials]


def _curve(epochs: pa.Table, metric: str) -> Floats:
    numbers = epochs["epoch"].to_numpy()
    curve: Floats = np.full(numbers.max(initial=-1) + 1, math.nan)
    curve[numbers] = floats(epochs[metric])
    return curve


def _counts(planned: Planned) -> Counts:
    """Counts of trials: where a trial stands in several families, of one row."""
    states = planned.states[_once(planned)] if len(planned.family_names) > 1 else planned.states
    numbers = np.bincount(states, minlength=len(State)).tolist()
    return Counts(total=len(states), **{state.name.lower(): numbers[state] for state in State})


def _once(planned: Planned) -> Integers:
    """Return a row of the plan for each trial: of its rows any.

    Trials that have a row in the table are told apart by it, only the others by their keys: those are text.
    """
    rows = np.full(planned.rows.max(initial=-1) + 2, -1)
    rows[planned.rows] = np.arange(len(planned.rows))
    unknown = np.flatnonzero(planned.rows < 0)
    keys, _ = codes_of(planned.keys.take(pa.array(unknown)))
    return np.concatenate([rows[:-1][rows[:-1] >= 0], unknown[np.unique(keys, return_index=True)[1]]])


def _troubles(planned: Planned, trials: pa.Table) -> tuple[Trouble, ...]:
    """The failed and diverged trials of the plan, grouped by cause."""
    rows = np.unique(planned.rows[planned.states >= State.DIVERGED])
    columns = ["trial", "configuration", "status", "failure", "error"]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in trials.select(columns).take(pa.array(rows)).to_pylist():
        groups.setdefault((row["status"], row["failure"] or "", _cause(row)), []).append(row)
    found = [
        Trouble(
            status=status,
            failure=failure,
            cause=cause,
            count=len(members),
            trial=min(member["trial"] for member in members),
            configuration=min(members, key=lambda member: member["trial"])["configuration"],
        )
        for (status, failure, cause), members in groups.items()
    ]
    return tuple(sorted(found, key=lambda trouble: (-trouble.count, trouble.trial)))


def _cause(row: Mapping[str, Any]) -> str:
    """The first line of a trial's error; a divergence may have left none."""
    told: str = (row["error"] or "").strip().split("\n", 1)[0]
    return NOT_FINITE if not told and row["status"] == Status.DIVERGED.value else told


def _retrained(families: Sequence[Family], trials: pa.Table) -> Iterator[Retrained]:
    """The retrainings of configurations of the plan, family by family."""
    found = _replicates(trials.select(TRIALS_COLUMNS).filter(pc.equal(trials["kind"], Kind.RETRAINING.value)))
    for family in families:
        for rows in found:
            index = pc.index(family.scores.keys, rows[0]["configuration"]).as_py()
            if index >= 0:
                yield _retraining(family, index, rows)


def _replicates(retrainings: pa.Table) -> list[list[dict[str, Any]]]:
    """Return the rows of each retraining that completed, first replicate first; each other row for itself."""
    together: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in sorted(retrainings.to_pylist(), key=lambda row: row["replicate"]):
        own = () if row["status"] == Status.COMPLETED.value else (row["trial"],)
        together.setdefault((row["configuration"], row["epochs"], *own), []).append(row)
    return list(together.values())


def _retraining(family: Family, index: int, rows: Sequence[Mapping[str, Any]]) -> Retrained:
    row = rows[0]
    accuracies = np.array([_number(row["test_accuracy"]) for row in rows])
    return Retrained(
        family=family.scores.name,
        configuration=row["configuration"],
        trial=row["trial"],
        status=row["status"],
        cause=_cause(row),
        epochs=row["epochs"],
        replicates=len(rows),
        test_loss=float(np.mean([_number(row["test_loss"]) for row in rows])),
        test_accuracy=float(accuracies.mean()),
        test_accuracy_std=float(accuracies.std(ddof=1)) if len(rows) > 1 else math.nan,
        parameters=row["parameters"],
        seconds=float(np.mean([_number(row["seconds"]) for row in rows])),
        validation_mean=float(family.means[index]),
        validation_std=float(family.stds[index]),
        winner=bool(len(family.order)) and int(family.order[0]) == index,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def summarize_folder(
    folder: ScanFolder,
    *,
    metric: str = "",
    families: Sequence[str] = (),
    by: str = "",
    top: int | None = None,
) -> Summary:
    """Return what a scan folder shows: `summarize` of its tables, of which only the columns needed are read.

    Parameters
    ----------
    metric : str
        "" for `selection.metric` of the scan file.

    Raises
    ------
    ScanError
        Where the folder holds no plan, or an option is not one of the scan.
    """
    told = asked(folder)
    metric = metric or told.metric
    schemas = read_schemas(folder) or Schemas.of({})
    _check_metric(metric, schemas)
    plan = read_columns(folder, PLAN_COLUMNS, encoded=("configuration", "family"))
    running = [row.trial for row in store.running(folder)]
    varying = _varying(plan, schemas)
    texts = [path for path in varying if schemas.hyperparameters[path] == pa.string()]
    trials = store.read_trials(folder, [*TRIALS_COLUMNS, *varying], encoded=[*ENCODED, *texts])
    found = summarize(
        plan,
        trials,
        metric=metric,
        scan=told.name,
        families=families,
        by=by,
        top=top,
        running=running,
        epochs=_epochs(folder, trials, metric),
    )
    return replace(found, retrained=tuple(_calibrated(one, folder) for one in found.retrained))


def _calibrated(one: Retrained, folder: ScanFolder) -> Retrained:
    """Return `one` with the calibration error that its model folder tells, where that is of the same trial."""
    try:
        card = json.loads((folder.models / one.family / "model.json").read_bytes())
        if card["provenance"]["trial"] != one.trial:
            return one
        return replace(one, test_calibration_error=_number(card["results"].get("test_calibration_error")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return one  # `nnscan evaluate` says what is wrong with it


def _check_metric(metric: str, schemas: Schemas) -> None:
    known = [name for name in schemas.metrics if name not in metrics.PER_CLASS]
    if metric not in known:
        raise ScanError("summary", [Problem("--metric", _unknown("metric", metric, known))])


def _varying(plan: pa.Table, schemas: Schemas) -> list[str]:
    """Hyperparameters that vary within a family, in the order of the scan file: equal values need not be read."""
    families = pc.unique(plan["family"]).to_pylist()
    axes = dict.fromkeys(path for family in families for path in Plan(plan).axes(family))
    return [path for path in (*axes, *VALIDATION) if path in schemas.hyperparameters]


def _epochs(folder: ScanFolder, trials: pa.Table, metric: str) -> pa.Table | None:
    """The epochs table as far as it is needed: where trials were scored by another metric."""
    of_metric = trials["metric"].filter(pc.equal(trials["kind"], Kind.TRIAL.value))  # filtering all columns takes 0.5 s
    if pc.all(pc.equal(of_metric, metric), min_count=0).as_py():
        return None
    return store.reduce_epochs(folder, ["trial", "epoch", metric], partial(best_rows, metric=metric))
