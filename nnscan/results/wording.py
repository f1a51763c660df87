"""How results are written for people, on a terminal and in a report: scores, durations, values, marks and ties."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnscan.results.leaderboard import FamilySummary, Leader
    from nnscan.results.summary import Retrained

KEY_DIGITS = 16
"""Of a key, for people; a prefix suffices wherever one is asked for."""

UNKNOWN = "-"

LONG_NUMBER = 10
"""Characters of a number from which on tables for people round it."""

NOT_FINITE = "a loss became NaN or infinite"
"""Why a trial diverged, where its row has no words for it."""


def duration(seconds: float) -> str:
    """Return a duration as people say it: "0.4 s", "80 s" becomes "1 m 20 s", "2 h 03 m"."""
    if math.isnan(seconds):
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} m"


def score(value: float) -> str:
    """Return a score with four decimals, or four digits where these would say nothing."""
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


def spread(mean: float, std: float) -> str:
    """Return a mean and its standard deviation, where there is one."""
    return score(mean) if math.isnan(std) else f"{score(mean)} ± {deviation(mean, std)}"


def deviation(mean: float, std: float) -> str:
    """Return the standard deviation of a mean: with the mean's four decimals, where that has four."""
    if std >= 1e4:
        return f"{std:.1e}"
    return f"{std:.4f}" if 1e-3 <= abs(mean) < 1e4 else score(std)


def once(texts: Sequence[str]) -> list[str]:
    """Return the texts, blank where one is like that above it."""
    return [text if place == 0 or text != texts[place - 1] else "" for place, text in enumerate(texts)]


_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def value_text(value: Any) -> str:
    """Return a hyperparameter as one word: a string as itself, of a SHA-256 its beginning, all else as in JSON."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str) and _SHA256.fullmatch(value):
        return value[: len("sha256:") + KEY_DIGITS]
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def rounded_text(value: Any) -> str:
    """Return a hyperparameter as `value_text` does, but of a long number six digits: 0.316228."""
    text = value_text(value)
    return f"{value:.6g}" if isinstance(value, float) and len(text) > LONG_NUMBER else text


def number(value: float, digits: int = 1) -> str:
    """Return a number with so many decimals."""
    return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"


def configurations_have(count: int) -> str:
    """Return the beginning of a sentence about so many configurations."""
    return "1 configuration has" if count == 1 else f"{count:,} configurations have"


def mark(leader: Leader) -> str:
    """Return the sign of a row: "*" of the winner, "=" of those tied with it."""
    return "*" if leader.winner else "=" if leader.tied else ""


def tie_lines(family: FamilySummary, winner: str = "*") -> Iterator[str]:
    """Yield what the marks mean (`winner`: of the winner), how many tied ones are not shown, and the cheapest."""
    if family.winner is None or family.complete < 2:
        return
    if family.tie_factor is None:
        yield "Nothing is marked as tied: one trial a configuration has no spread to judge by. Use folds or replicates."
        return
    yield (
        f"{winner} wins. = is tied with it: the mean paired difference of n = {family.winner.n} scores is at most"
        f" {family.tie_factor:.2f} of their standard deviations (one-sided corrected resampled t-test, 95 %)."
    )
    shown = sum(leader.tied and not leader.winner for leader in family.leaders)
    if hidden := family.tied - shown:
        yield f"{hidden:,} more {'is' if hidden == 1 else 'are'} tied."
    cheap = family.cheapest
    if cheap and cheap.cost < 1:
        yield (
            f"The cheapest of these, {cheap.configuration[:KEY_DIGITS]} (rank {cheap.rank}), has {cheap.cost:.2g} of"
            " the winner's parameters: nnscan retrain-best --prefer cheapest"
        )


def retrained_note(one: Retrained) -> str:
    """Return what the numbers do not say."""
    if one.cause or one.status != "completed":
        return f"{one.status}: {one.cause}"
    return "" if one.winner else "no longer the winner"


def tested(one: Retrained) -> str:
    """Return the test accuracy of a retrained winner, with its spread and number where it was retrained often."""
    if one.replicates == 1:
        return score(one.test_accuracy)
    return f"{spread(one.test_accuracy, one.test_accuracy_std)} ({one.replicates})"


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return the shortest endings of dotted paths that tell them apart; a `name` goes by the table it stands in."""
    found = {path: _ending(path, 1) for path in paths}
    for length in range(2, 6):
        names = list(found.values())
        found = {path: name if names.count(name) == 1 else _ending(path, length) for path, name in found.items()}
    return found


def _ending(path: str, length: int) -> str:
    return ".".join(path.removesuffix(".name").split(".")[-length:])
