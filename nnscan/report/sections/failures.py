"""What failed: status, error, and the command that reruns one trial alone."""

from __future__ import annotations

import pyarrow.compute as pc

from nnscan.report.markup import Html, element, joined
from nnscan.report.material import Material
from nnscan.report.sections.section import Section
from nnscan.results import store
from nnscan.results.summary import Trouble
from nnscan.results.wording import KEY_DIGITS


def section(material: Material, rerun: str) -> Section | None:
    """Return the failed and diverged trials by cause; None where there are none."""
    troubles = material.summary.troubles
    if not troubles:
        return None
    tracebacks = _tracebacks(material, [trouble.trial for trouble in troubles])
    heads = ("trials", "status", "error", "to run one of them again")
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    rows = joined(_row(trouble, rerun, tracebacks.get(trouble.trial, "")) for trouble in troubles)
    table = element("table", element("thead", head), element("tbody", rows), id="failed")
    return Section(anchor="failed", title="What failed", parts=(element("div", table, class_="scroll"),))


def _row(trouble: Trouble, rerun: str, traceback: str) -> Html:
    kind = f"{trouble.status} ({trouble.failure})" if trouble.failure else trouble.status
    command = f"{rerun} --cluster inline --trial {trouble.trial[:KEY_DIGITS]}"
    more = element("details", element("summary", "Traceback"), element("pre", traceback)) if traceback else Html("")
    return element(
        "tr",
        element("td", f"{trouble.count:,}", class_="number"),
        element("td", kind),
        element("td", trouble.cause or "no message", more),
        element("td", element("code", command)),
    )


def _tracebacks(material: Material, trials: list[str]) -> dict[str, str]:
    table = store.read_trials(material.folder, ["trial", "traceback"])
    rows = table.filter(pc.is_in(table["trial"], value_set=pc.cast(trials, "string")))
    return {row["trial"]: row["traceback"] or "" for row in rows.to_pylist()}
