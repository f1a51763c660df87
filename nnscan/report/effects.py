"""What hyperparameters do: marginal means of each axis, of pairs of switches, and of the weights of losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from nnscan.results.leaderboard import FamilySummary, Leader, Marginal

MANY_VALUES = 12
"""So many numbers on an axis stand at their places, not side by side."""

DECADES_APART = 100.0
"""Positive numbers that span so much stand on a logarithmic axis."""

SWITCHES = 3
"""Of more switches than these the combinations are not shown: 8 are readable."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """The scores of a family at the values of an axis."""

    family: str
    place: int
    """Of the family in the scan, which gives its colour."""
    values: tuple[Any, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    """NaN where there is one score only."""
    counts: tuple[int, ...]
    """Scores that each mean is taken over."""


@dataclass(frozen=True, kw_only=True)
class AxisEffect:
    """The marginal effect of an axis, a series a family."""

    path: str
    values: tuple[Any, ...]
    """All values, in the order in which they are shown."""
    series: tuple[Series, ...]

    @property
    def numeric(self) -> bool:
        """Whether every value is a number."""
        return all(is_number(value) for value in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether the values belong on a logarithmic axis: rates, and what spans two decades."""
        if not self.numeric or len(self.values) < 2 or min(self.values) <= 0:
            return False
        return self.path.endswith("_rate") or max(self.values) / min(self.values) >= DECADES_APART

    @property
    def in_place(self) -> bool:
        """Whether values stand at their places on the axis, not side by side at equal distances."""
        return self.logarithmic or (self.numeric and len(self.values) > MANY_VALUES)


def is_number(value: Any) -> bool:
    """Return whether `value` is a number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def axis_effects(families: Sequence[FamilySummary]) -> list[AxisEffect]:
    """Return the marginal effects of all families, those of one axis together, then those of switches."""
    found: dict[str, list[Series]] = {}
    for place, family in enumerate(families):
        for marginal in family.marginals:
            if len(marginal.effects) > 1:
                found.setdefault(marginal.path, []).append(_series(family.name, place, marginal))
    effects = [AxisEffect(path=path, values=_ordered(series), series=tuple(series)) for path, series in found.items()]
    return effects + list(_switch_effects(families))


def _series(family: str, place: int, marginal: Marginal) -> Series:
    return Series(
        family=family,
        place=place,
        values=tuple(_hashable(effect.value) for effect in marginal.effects),
        means=tuple(effect.mean for effect in marginal.effects),
        stds=tuple(effect.std for effect in marginal.effects),
        counts=tuple(effect.n for effect in marginal.effects),
    )


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _ordered(series: Sequence[Series]) -> tuple[Any, ...]:
    """All values: numbers ascending, others as they come."""
    values = list(dict.fromkeys(value for one in series for value in one.values))
    return tuple(sorted(values)) if all(isinstance(value, bool | int | float) for value in values) else tuple(values)


def _switch_effects(families: Sequence[FamilySummary]) -> Iterator[AxisEffect]:
    """Yield the effect of the combinations of switches (axes of true and false), of families with the same ones."""
    groups: dict[tuple[str, ...], list[tuple[int, FamilySummary]]] = {}
    for place, family in enumerate(families):
        groups.setdefault(switches(family), []).append((place, family))
    for paths, members in groups.items():
        if 2 <= len(paths) <= SWITCHES:
            values = tuple(product((False, True), repeat=len(paths)))
            series = tuple(_switch_series(family, place, paths, values) for place, family in members if family.leaders)
            if not series:
                continue
            yield AxisEffect(path=", ".join(paths), values=values, series=series)


def switches(family: FamilySummary) -> tuple[str, ...]:
    """Return the axes of a family whose values are true and false."""
    found = {marginal.path: [effect.value for effect in marginal.effects] for marginal in family.marginals}
    return tuple(path for path in family.axes if _are_switched(found.get(path, [])))


def _are_switched(values: Sequence[Any]) -> bool:
    """Whether there are values, of true and false alone; a family without a score has none."""
    return bool(values) and all(isinstance(value, bool) for value in values)


def _switch_series(
    family: FamilySummary, place: int, paths: Sequence[str], values: Sequence[tuple[bool, ...]]
) -> Series:
    groups: dict[tuple[Any, ...], list[float]] = {value: [] for value in values}
    for leader in family.leaders:
        groups.get(tuple(leader.hyperparameters[path] for path in paths), []).append(leader.mean)
    filled = {value: np.array(means) for value, means in groups.items() if means}
    return Series(
        family=family.name,
        place=place,
        values=tuple(filled),
        means=tuple(float(means.mean()) for means in filled.values()),
        stds=tuple(float(means.std(ddof=1)) if len(means) > 1 else math.nan for means in filled.values()),
        counts=tuple(len(means) for means in filled.values()),
    )


def score_range(effects: Sequence[AxisEffect]) -> tuple[float, float]:
    """Return limits that hold the means of all effects with their spread: on one scale axes can be compared.

    What is not finite is left out; of nothing that is, the limits are about 0.
    """
    series = [one for effect in effects for one in effect.series]
    means = np.array([mean for one in series for mean in one.means])
    stds = np.nan_to_num(np.array([std for one in series for std in one.stds]), posinf=0.0)
    ends = np.concatenate([means - stds, means + stds])
    known = ends[np.isfinite(ends)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin


@dataclass(frozen=True, kw_only=True)
class WeightEffect:
    """Scores over the weights of losses, everything else as the winner has it."""

    family: str
    paths: tuple[str, ...]
    """One axis, or several that vary together."""
    values: tuple[tuple[Any, ...], ...]
    """A value of each path."""
    means: tuple[float, ...]
    stds: tuple[float, ...]
    """Sample standard deviation over folds and replicates; NaN for one trial."""
    n: int
    """Trials of a point."""


def weight_effects(family: FamilySummary) -> list[WeightEffect]:
    """Return the effect of each numeric axis of `task.*`, or of all together where they vary together."""
    if family.winner is None:
        return []
    paths = [path for path in family.axes if path.startswith("task.") and _is_weight(family, path)]
    alone = [found for path in paths if (found := _weight_effect(family, (path,)))]
    together = _weight_effect(family, tuple(paths)) if len(paths) > 1 and not alone else None
    return [*alone, *([together] if together else [])]


def _is_weight(family: FamilySummary, path: str) -> bool:
    return all(_is_weights(leader.hyperparameters[path]) for leader in family.leaders)


def _is_weights(value: Any) -> bool:
    return is_number(value) or (isinstance(value, list) and all(is_number(one) for one in value))


def _weight_effect(family: FamilySummary, paths: tuple[str, ...]) -> WeightEffect | None:
    assert family.winner is not None
    kept = {path: value for path, value in family.winner.hyperparameters.items() if path not in paths}
    chosen = sorted(_agreeing(family.leaders, kept), key=lambda leader: _values(leader, paths))
    if len(chosen) < 2:
        return None
    return WeightEffect(
        family=family.name,
        paths=paths,
        values=tuple(_values(leader, paths) for leader in chosen),
        means=tuple(leader.mean for leader in chosen),
        stds=tuple(leader.std for leader in chosen),
        n=chosen[0].n,
    )


def _agreeing(leaders: Sequence[Leader], values: Mapping[str, Any]) -> Iterator[Leader]:
    for leader in leaders:
        if all(leader.hyperparameters[path] == value for path, value in values.items()):
            yield leader


def _values(leader: Leader, paths: Sequence[str]) -> tuple[Any, ...]:
    return tuple(_hashable(leader.hyperparameters[path]) for path in paths)
