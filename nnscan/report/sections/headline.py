"""The head of the page: what was asked, how far it is, who won; and at its foot what it was made with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc

from nnscan.plan import Plan
from nnscan.report.markup import Html, element, joined
from nnscan.report.material import Material
from nnscan.report.sections.section import Section
from nnscan.report.testing import calibration_error, test_scores
from nnscan.report.winners import promised
from nnscan.results.leaderboard import FamilySummary
from nnscan.results.scores import floats, own_seconds
from nnscan.results.summary import Retrained
from nnscan.results.wording import KEY_DIGITS, UNKNOWN, duration, rounded_text, score, short_names, spread
from nnscan.trial import Status

COMPLETED = Status.COMPLETED.value
STATES = ("completed", "diverged", "failed", "running", "pending")


def section(material: Material) -> Section:
    """Return the head of the page."""
    parts = (_counts(material), _asked(material), _winners(material))
    return Section(anchor="scan", title="The scan", parts=parts)


def _counts(material: Material) -> Html:
    counts = material.summary.counts
    said = [f"{getattr(counts, state):,} {state}" for state in STATES if getattr(counts, state)]
    best = "smallest" if material.summary.smallest else "largest"
    rows = [
        ("Trials", f"{counts.total:,}: {', '.join(said)}"),
        ("Configurations", f"{sum(family.configurations for family in material.families):,}"),
        *_setting(material),
        ("Score", f"{material.summary.metric} at its best epoch, {best} is best"),
        ("Time", _time(material)),
    ]
    return _facts(rows)


def _setting(material: Material) -> Iterator[tuple[str, str]]:
    """Data and validation, of the first configuration of the plan."""
    settings = material.settings(material.plan["configuration"][0].as_py())
    function = settings["training"].get("function", "")
    yield ("Training function", function) if function else ("Data", settings["data"]["name"])
    validation = settings["validation"]
    parts = f"{validation['folds']} folds" if "folds" in validation else f"a hold-out of {validation['holdout']:g}"
    replicates = (pc.max(material.plan["replicate"]).as_py() or 0) + 1
    repeated = f", {replicates} replicates" if replicates > 1 else ""
    yield "Validation", f"{parts}{repeated}; up to {settings['training']['epochs']} epochs"


def _facts(rows: Sequence[tuple[str, str]]) -> Html:
    return element("dl", *(part for name, text in rows for part in (element("dt", name), element("dd", text))))


def _time(material: Material) -> str:
    trials = material.trials
    own = np.nansum(own_seconds(floats(trials["seconds"]), floats(trials["fused"])))
    told = [f"{duration(float(own) or math.nan)} of training in all"]
    first, last = pc.min(trials["started"]).as_py(), pc.max(trials["ended"]).as_py()
    if first and last:
        told.append(f"from {_moment(first)} to {_moment(last)} UTC")
    return ", ".join(told)


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def _asked(material: Material) -> Html:
    """The families with their axes."""
    head = element("tr", *(element("th", name, scope="col") for name in ("family", "configurations", "axes")))
    plan = Plan(material.plan)
    rows = (
        element(
            "tr",
            element("th", family.name, scope="row"),
            element("td", _configurations(family, plan), class_="number"),
            element("td", *_axes(plan, family.name)),
        )
        for family in material.families
    )
    table = element("table", element("thead", head), element("tbody", *rows))
    return Html(element("h3", "What was asked") + element("div", table, class_="scroll"))


def _configurations(family: FamilySummary, plan: Plan) -> str:
    """How many; and of how many combinations, where some axes vary together or not all were asked for."""
    combinations = math.prod(len(values) for values in plan.axes(family.name).values())
    return f"{family.configurations:,}" + (
        f" of {combinations:,} combinations" if combinations > family.configurations else ""
    )


def _axes(plan: Plan, family: str) -> Iterator[Html]:
    axes = plan.axes(family)
    if not axes:
        yield element("span", "one configuration")
    for path, values in axes.items():
        yield element("div", element("code", path), f": {', '.join(map(rounded_text, values))}")


def _winners(material: Material) -> Html:
    told = [family for family in material.families if family.winner]
    if not told:
        return element("p", "No configuration is complete yet, so nothing has won.")
    names = ("family", material.summary.metric, "tied", "mean curve's best", "parameters", "test accuracy")
    more = ("test loss", "calibration error", "winner")
    head = element("tr", *(element("th", name, scope="col") for name in (*names, *more)))
    rows = (_winner(material, family) for family in told)
    note = (
        "A score is the mean over folds and replicates with the standard deviation. “Mean curve's best”: the trials'"
        " curves, each carried on from its last value where it stopped early, averaged; its best value, and the epoch"
        " for which a winner is retrained. The test's scores are means where a winner was retrained often (n); its"
        " calibration error is of the first of these networks, the one that is kept."
    )
    troubles = (_retraining_trouble(one) for one in material.summary.retrained if one.status != COMPLETED)
    return Html(
        element("h3", "Winners")
        + element(
            "div", element("table", element("thead", head), element("tbody", *rows), id="winners"), class_="scroll"
        )
        + element("p", note, class_="note")
        + joined(troubles)
    )


def _retraining_trouble(one: Retrained) -> Html:
    why = f": {one.cause}" if one.cause else ""
    words = f"{one.family}: a retraining of {one.configuration[:KEY_DIGITS]} {one.status}{why}. Its test is without it."
    return element("p", words, class_="note")


def _winner(material: Material, family: FamilySummary) -> Html:
    winner = family.winner
    assert winner is not None
    curve = promised(material, family)
    tested = test_scores(material, winner.configuration)
    names = short_names(family.axes)
    values = ", ".join(f"{names[path]} {rounded_text(value)}" for path, value in winner.hyperparameters.items())
    cells = (
        spread(winner.mean, winner.std),
        UNKNOWN if family.tie_factor is None else f"{family.tied:,}",
        f"{spread(curve.mean, curve.std)} at epoch {curve.epochs}" if curve else UNKNOWN,
        UNKNOWN if winner.parameters is None else f"{winner.parameters:,}",
        f"{tested.accuracy}{tested.often}",
        tested.loss,
        score(calibration_error(material, family.name)),
    )
    return element(
        "tr",
        element("th", family.name, scope="row"),
        *(element("td", cell, class_="number") for cell in cells),
        element("td", element("code", winner.configuration[:KEY_DIGITS]), f" {values}"),
    )


def origin(material: Material) -> Section:
    """Return the foot of the page: versions and machines."""
    columns = (
        *(("nnscan", "nnscan_version"), ("torch", "torch_version"), ("Python", "python_version")),
        *(("Device", "device"), ("Machines", "host")),
    )
    rows = [(name, _distinct(material, column)) for name, column in columns]
    rows.append(("Folder", str(material.folder.path)))
    return Section(anchor="origin", title="Made with", parts=(_facts(rows), _scan_file(material)))


def _scan_file(material: Material) -> Html:
    asked = element("summary", "The scan file, every default written out")
    text = material.folder.scan_file.read_text(encoding="utf-8")
    return element("details", asked, element("pre", text))


def _distinct(material: Material, column: str) -> str:
    values = sorted(str(value) for value in pc.unique(material.trials[column]).to_pylist() if value is not None)
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(values[:5]) + more
