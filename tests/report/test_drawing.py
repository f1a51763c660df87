"""Figures of little and of much: text stays inside, names of values do not lie on each other, nothing warns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import combinations, product

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from reported import examples_of

from nnscan.report.activations import Activation
from nnscan.report.coordinates import Coordinates, ValueAxis
from nnscan.report.curves import Band, MeanCurves, WinnerCurves
from nnscan.report.drawing.coordinates import draw_coordinates
from nnscan.report.drawing.curves import draw_curves, draw_winner
from nnscan.report.drawing.effects import draw_effect, draw_weights
from nnscan.report.drawing.images import draw_activations, draw_classes, draw_gallery, draw_worst
from nnscan.report.drawing.predictions import (
    draw_class_accuracy,
    draw_confusion,
    draw_probabilities,
    draw_reliability,
)
from nnscan.report.drawing.steps import draw_batch_accuracy, draw_gradient_norms
from nnscan.report.drawing.style import styled, to_png, to_svg
from nnscan.report.effects import AxisEffect, Series, WeightEffect
from nnscan.report.examples import CLASS, GALLERY, WORST, by_class, examples
from nnscan.report.predictions import probability_histogram, reliability
from nnscan.report.steps import StepCurve, Steps

NAN = float("nan")
LONG = "a class with a name that takes a whole line of text"


def curves(configurations: int, epochs: int, scale: float = 1.0) -> Figure:
    values = scale * np.random.default_rng(0).random((configurations, epochs))
    found = MeanCurves(metric="val_accuracy", configurations=tuple(map(str, range(configurations))), values=values)
    members = np.arange(configurations) % 2 == 0
    return draw_curves(found, "CNN", members, "0")


def winner(epochs: int, best: int) -> Figure:
    mean = np.linspace(2.0, 0.1, epochs)
    bands = tuple(Band(name=name, mean=mean, std=0.1 * mean) for name in ("train_loss", "val_loss"))
    return draw_winner(
        WinnerCurves(
            **{"family": "CNN", "configuration": "c", "bands": bands, "best_epoch": best, "metric": "val_accuracy"},
            best_value=0.9,
            n=3,
        )
    )


def effect(path: str, *values: object, families: int = 1) -> Figure:
    count = len(values)
    series = tuple(
        Series(
            **{"family": f"family {place}", "place": place, "values": values, "counts": (2,) * count},
            means=tuple(np.linspace(0.5, 0.9, count)),
            stds=(0.1,) * (count - 1) + (NAN,),
        )
        for place in range(families)
    )
    return draw_effect(AxisEffect(path=path, values=values, series=series), "val_accuracy", (0.3, 1.1))


def weights(*values: tuple[float, ...]) -> Figure:
    count = len(values)
    told = {"family": "Siamese", "values": values, "means": (0.8,) * count, "stds": (0.01,) * count, "n": 10}
    return draw_weights(WeightEffect(paths=("task.a", "task.b")[: len(values[0])], **told), "val_accuracy")


def grid(configurations: int, axes: int) -> Figure:
    values = (None, "a long name of a choice", True, 0.001)
    random = np.random.default_rng(0)
    view = Coordinates(
        family="CNN",
        axes=tuple(ValueAxis(path=f"model.option_{number}", values=values) for number in range(axes)),
        heights=random.random((configurations, axes)),
        scores=np.sort(random.random(configurations)),
        low=0.0,
        high=1.0,
    )
    return draw_coordinates(view, "val_accuracy")


def confusion(classes: int, name: str = "class") -> Figure:
    counts = np.random.default_rng(0).integers(0, 9999, (classes, classes))
    return draw_confusion(counts, [f"{name} {number}" for number in range(classes)])


def class_accuracy(classes: int, name: str = "class") -> Figure:
    fractions = np.linspace(0, 1, classes)
    fractions[0] = NAN
    return draw_class_accuracy(fractions, np.arange(classes) * 100, [f"{name} {place}" for place in range(classes)])


def calibration(count: int) -> Figure:
    random = np.random.default_rng(0)
    return draw_reliability(reliability(random.random(count), (random.random(count) > 0.5).astype(float)))


def probabilities(count: int) -> Figure:
    counts, edges = probability_histogram(np.random.default_rng(0).random(count))
    return draw_probabilities(counts, edges, counts // 2)


def recorded(epochs: int, steps: int, layers: int = 0) -> Steps:
    names = ["accuracy", *(f"gradient_norm/block.{number}.convolution.weight" for number in range(layers))]
    values = 10.0 ** np.random.default_rng(0).uniform(-9, 3, epochs * steps)
    return Steps(
        curves=tuple(StepCurve(name=name, values=values * (number + 1)) for number, name in enumerate(names)),
        starts=np.arange(epochs) * steps,
        epochs=np.arange(1, epochs + 1),
    )


def batches(epochs: int, steps: int) -> Figure:
    told = recorded(epochs, steps)
    return draw_batch_accuracy(told, told.curves[0])


def norms(trainings: int, layers: int) -> Figure:
    return draw_gradient_norms({f"batch_norm yes, skip {n}": recorded(2, 50, layers) for n in range(trainings)})


def pictures(draw: Callable, role: str, count: int, name: str = "cat") -> Figure:
    return draw(examples(examples_of(count, (name, "dog")), role))


def classes(count: int) -> Figure:
    names = [f"{LONG} {number}" for number in range(count)]
    return draw_classes(by_class(examples(examples_of(5 * count, names, (8, 8, 3)), CLASS), names))


def activations(count: int) -> Figure:
    found = examples(examples_of(count, ("cat", LONG)), WORST)
    return draw_activations([Activation(example=one, map=np.eye(8)) for one in found])


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves, one": lambda: curves(1, 1),
    "curves, many": lambda: curves(400, 101),
    "curves, far": lambda: curves(9, 9, 1e9),
    "winner, best first": lambda: winner(30, 1),
    "winner, best last": lambda: winner(30, 29),
    "winner, one epoch": lambda: winner(2, 1),
    "effect, rates": lambda: effect("optimizer.learning_rate", 1e-4, 1e-3, 0.01, 0.1, 0.25, 1.0, families=3),
    "effect, widths": lambda: effect("model.width", 8, 16, 32, 64, families=4),
    "effect, many widths": lambda: effect("model.width", *range(1, 60)),
    "effect, lists": lambda: effect("model.channels", (64, 128, 256, 128), (32, 64, 128, 64), (8, 16), (4,)),
    "effect, names": lambda: effect("optimizer.name", *(f"a.module:function_{number}" for number in range(6))),
    "effect, switches": lambda: effect("a.b, a.c, a.d", *product((False, True), repeat=3)),
    "weights, one": lambda: weights(*((10.0**-power,) for power in range(10))),
    "weights, two": lambda: weights(*((1.0, 10.0 ** (-power / 2)) for power in range(9))),
    "grid, small": lambda: grid(3, 2),
    "grid, large": lambda: grid(400, 9),
    "confusion of 2": lambda: confusion(2, LONG),
    "confusion of 10": lambda: confusion(10),
    "confusion of 20": lambda: confusion(20),
    "confusion of 100": lambda: confusion(100),
    "accuracy of 2": lambda: class_accuracy(2, LONG),
    "accuracy of 100": lambda: class_accuracy(100),
    "calibration of 1": lambda: calibration(1),
    "calibration of 1000": lambda: calibration(1000),
    "probabilities of 1": lambda: probabilities(1),
    "probabilities of 10000": lambda: probabilities(10000),
    "batches, few": lambda: batches(1, 2),
    "batches, many": lambda: batches(75, 400),
    "norms, one": lambda: norms(1, 2),
    "norms, deep": lambda: norms(4, 60),
    "worst, one": lambda: pictures(draw_worst, WORST, 1),
    "worst, 10": lambda: pictures(draw_worst, WORST, 10, LONG),
    "gallery, 10": lambda: pictures(draw_gallery, GALLERY, 20, LONG),
    "classes": lambda: classes(4),
    "maps, one": lambda: activations(1),
    "maps, 6": lambda: activations(6),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_figures_are_readable(draw: Callable[[], Figure]) -> None:
    with warnings.catch_warnings(), styled():
        warnings.simplefilter("error")
        figure = draw()
        FigureCanvasAgg(figure).draw()
    outside = [text.get_text() for text in texts(figure) if not inside(figure, text)]
    assert outside == []
    assert list(overlaps(figure)) == []


def texts(figure: Figure) -> Iterator[Text]:
    """Everything that is written and shown: no name of a tick outside of the limits of its axis."""
    axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = [tick for axis in axes for tick in (*axis.majorTicks, *axis.minorTicks)]
    names = {id(name) for tick in ticks for name in (tick.label1, tick.label2)}
    drawn = {id(name) for axes in figure.axes for name in named(axes)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and (id(text) not in names or id(text) in drawn):
            yield text


def named(axes: Axes) -> list[Text]:
    """The names of ticks that are drawn."""
    found = []
    for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
        low, high = sorted(axis.get_view_interval())
        slack = 1e-9 * (high - low)
        ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
        found += [tick.label1 for tick in ticks if low - slack <= tick.get_loc() <= high + slack]
    return found


def inside(figure: Figure, text: Text) -> bool:
    box, page = text.get_window_extent(), figure.bbox
    return box.x0 >= page.x0 - 2 and box.x1 <= page.x1 + 2 and box.y0 >= page.y0 - 2 and box.y1 <= page.y1 + 2


def overlaps(figure: Figure) -> Iterator[tuple[str, str]]:
    """Yield neighbours among the names of values on an axis, and among titles, that lie on each other."""
    for axes in figure.axes:
        names = [text for text in named(axes) if text.get_text().strip() and text.get_visible()]
        upright = [text for text in names if text.get_rotation() in (0, 90)]  # boxes of slanted ones meet anyway
        yield from meeting(upright)
    yield from meeting([axes.title for axes in figure.axes if axes.title.get_text()])


def meeting(labels: list[Text]) -> Iterator[tuple[str, str]]:
    boxes = [(text.get_text(), text.get_window_extent().shrunk(0.98, 0.9)) for text in labels]
    for (one, box), (other, another) in combinations(boxes, 2):
        if box.overlaps(another):
            yield one, other


def test_equal_figures_are_equal_files() -> None:
    with styled():
        assert to_svg(confusion(3)) == to_svg(confusion(3))
        assert to_png(confusion(3)) == to_png(confusion(3))


def test_figures_do_not_depend_on_settings_of_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    with styled():
        plain = to_png(confusion(3))
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}), styled():
        assert to_png(confusion(3)) == plain


def test_a_dollar_in_the_name_of_a_class_begins_no_formula() -> None:
    counts = np.array([[3, 1], [0, 2]])
    with styled():
        figure = draw_confusion(counts, [r"$\frac{$", "$1 to $2"])
        to_png(figure)
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [r"\$\frac{\$", r"\$1 to \$2"]


def test_a_dollar_in_the_title_of_a_panel_begins_no_formula() -> None:
    one = Steps(curves=(StepCurve(name="gradient_norm/w", values=np.ones(4)),), starts=np.array([0]), epochs=np.ones(1))
    with styled():
        to_png(draw_gradient_norms({r"loss $\frac{$": one}))


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.9), (3.0, 0.1)], ids=["large is best", "small is best"])
def test_the_best_lines_of_a_grid_are_the_darkest(low: float, high: float) -> None:
    axes = tuple(ValueAxis(path=f"model.{name}", values=(1, 2, 3)) for name in "ab")
    scores = np.array([low, (low + high) / 2, high])
    view = Coordinates(family="A", axes=axes, heights=np.zeros((3, 2)), scores=scores, low=low, high=high)
    with styled():
        figure = draw_coordinates(view, "val_accuracy")
        FigureCanvasAgg(figure).draw()
    (lines,) = (one for one in figure.axes[0].collections if len(one.get_paths()) == 3 and one.get_array() is not None)
    brightness = lines.get_colors()[:, :3].sum(axis=1)
    assert list(np.argsort(brightness)) == [2, 1, 0]


def test_a_loss_that_is_never_negative_has_no_band_below_zero() -> None:
    wide = Band(name="val_loss", mean=np.array([2.0, 1.0]), std=np.array([0.5, 4.0]))
    told = WinnerCurves(
        family="A", configuration="k", bands=(wide,), best_epoch=1, metric="val_accuracy", best_value=0.5, n=2
    )
    with styled():
        (area,) = draw_winner(told).axes[0].collections
    heights = area.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.0, 5.0)


@pytest.mark.parametrize("families", [1, 2, 7])
def test_a_line_of_means_stands_at_its_values(families: int) -> None:
    figure = effect("model.width", 8, 16, 32, families=families)
    for place in (0, 1, 2):
        assert all(abs(line.get_xdata()[place] - place) < 0.2 for line in figure.axes[0].get_lines()[::3])


def test_a_picture_stays_visible_where_the_network_does_not_look() -> None:
    found = examples(examples_of(1, ("cat", "dog"), (8, 8, 3)), WORST)
    half = np.repeat([[1.0, 0.0]], 8, axis=0).repeat(4, axis=1)
    with styled():
        over = draw_activations([Activation(example=found[0], map=half)]).axes[2].images[-1]
    assert over.get_alpha()[0, 0] == pytest.approx(0.8)
    assert over.get_alpha()[0, 7] == pytest.approx(0.2)


def test_series_on_a_logarithmic_axis_stand_apart_by_the_same_share_of_a_step() -> None:
    figure = effect("optimizer.learning_rate", 1e-4, 1e-3, 0.01, 0.1, families=2)
    first, second = (container.lines[0].get_xdata() for container in figure.axes[0].containers)
    assert np.log10(second / first) == pytest.approx(0.06)
    assert np.log10(first * second) / 2 == pytest.approx([-4, -3, -2, -1])
