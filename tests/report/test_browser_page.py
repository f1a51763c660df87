"""The page in a real browser, from a file: it loads, complains of nothing, asks nobody, sorts, filters, prints."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import NAMES, Browser, Page, browsing, program
from reported import fail, launched, retrain, train

from nnscan.report.writing import write_report

MANY = """
name = "many"
[data]
name = "digits"
[validation]
folds = 2
[training]
epochs = 4
[optimizer]
name = "adam"
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27]
model.depth = [1, 2]
optimizer.learning_rate = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01]
"""
"""400 configurations."""

BOARD = "document.querySelector('.family table.board')"
FIELD = "document.querySelector('.family input')"


def head(name: str) -> str:
    """The button of the column that is filtered by `name`."""
    return f"document.querySelector('.family th[data-name=\"{name}\"] button')"


def column(page: Page, number: int) -> list[str]:
    """The texts of a column, as far as it is shown."""
    rows = f"Array.from({BOARD}.tBodies[0].rows).filter((row) => row.offsetParent !== null)"
    return page.evaluate(f"{rows}.map((row) => row.cells[{number}].innerText)")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = program()
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is on the path")
    with browsing(found, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of 400 configurations, one of which failed in a fold and cannot win; copied away from its scan."""
    folder, plan = launched(tmp_path_factory.mktemp("scans"), MANY)
    trials = list(plan.trials())
    train(folder, trials[1:])
    fail(folder, trials[0])
    retrain(folder, trials[-1])
    written = write_report(folder)
    copied = tmp_path_factory.mktemp("laptop") / "copy of report.html"
    written.page.rename(copied)
    return copied


@pytest.fixture
def page(chromium: Browser, page_file: Path) -> Page:
    return chromium.open(page_file.as_uri())


def test_it_loads_without_complaint_and_asks_nobody(page: Page, page_file: Path) -> None:
    assert page.evaluate("document.title") == "many: nnscan report"
    assert page.evaluate("Array.from(document.images).every((image) => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.images.length") > 5
    assert page.complaints() == []
    assert page.requests() == [page_file.as_uri()]


def test_a_complaint_would_be_seen(page: Page) -> None:
    page.evaluate("console.error('oh')")
    page.evaluate("setTimeout(() => fetch('http://127.0.0.1:9/'), 0)")
    page.evaluate("1")
    assert any("oh" in str(told) for told in page.complaints())


def test_the_winner_is_shown_first_and_marked(page: Page) -> None:
    row = f"{BOARD}.tBodies[0].rows[0]"
    assert page.evaluate(f"{row}.className") == "winner"
    assert page.evaluate(f"{row}.innerText").split("\t")[:2] == ["1 ★ wins", "0.8392"]  # (0.8885 * 15 + 0.1) / 16
    assert page.evaluate(f"{row}.cells[4].innerText") == "0.8750"  # its retraining's test
    assert "0.8392" in page.evaluate("document.querySelector('#winners').innerText")


def test_a_click_on_a_head_sorts_and_another_turns_it_round(page: Page) -> None:
    assert len(column(page, 1)) == 399
    page.click(head("model.width"))
    widths = [int(text) for text in column(page, 5)]
    assert widths == sorted(widths)
    assert widths[0] == 8
    assert page.evaluate(f"{head('model.width')}.parentElement.getAttribute('aria-sort')") == "ascending"
    page.click(head("model.width"))
    assert [int(text) for text in column(page, 5)] == widths[::-1]
    page.click(head(""))
    assert [text.split()[0] for text in column(page, 0)] == [str(rank) for rank in range(1, 400)]


def test_what_is_unknown_comes_last_either_way(page: Page) -> None:
    for _ in range(2):
        page.click(head("test"))
        assert column(page, 4)[:2] == ["0.8750", "-"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("width=27", 20),
        ("width=27 rate<0.003", 4),
        ("rate<=0.003 depth=2", 60),
        ("width>25 depth=1", 20),
        ("wins", 1),
        ("nothing like this", 0),
        ("width=", 0),
        ("", 399),
    ],
    ids=["equal", "two conditions", "at most", "more", "a word", "none", "half a condition", "empty"],
)
def test_words_in_the_field_filter(page: Page, text: str, shown: int) -> None:
    page.type(FIELD, "x")
    page.type(FIELD, text) if text else page.evaluate(f"{FIELD}.value = ''; {FIELD}.dispatchEvent(new Event('input'))")
    assert len(column(page, 0)) == shown
    assert page.evaluate("document.querySelector('.family .count').innerText") == f"{shown} of 399 configurations"


def test_sorting_keeps_the_filter(page: Page) -> None:
    page.type(FIELD, "width=27")
    page.click(head("optimizer.learning_rate"))
    rates = [float(text) for text in column(page, 7)]
    assert len(rates) == 20
    assert rates == sorted(rates)


def test_what_failed_is_told_as_text_with_its_command(page: Page) -> None:
    told = page.evaluate("document.querySelector('#failed').innerText")
    assert "ValueError: <b>too wide</b>" in told
    assert "--cluster inline --trial" in told


def test_paper_has_the_first_forty_rows_and_no_field(page: Page) -> None:
    page.print_media(True)
    assert len(column(page, 0)) == 40
    assert page.evaluate(f"{FIELD}.offsetParent === null")
    page.print_media(False)
    assert len(column(page, 0)) == 399


def test_it_prints_with_everything_unfolded(page: Page) -> None:
    folded = "Array.from(document.querySelectorAll('details')).filter((one) => !one.open).length"
    assert page.evaluate(folded) > 0
    printed = page.browser.call("Page.printToPDF", page.session)["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    assert page.evaluate(folded) == 0


def test_every_figure_has_a_text_and_fits_its_place(page: Page) -> None:
    assert page.evaluate("Array.from(document.images).every((image) => image.alt.length > 20)")
    wider = "Array.from(document.images).filter((image) => image.width > image.closest('figure').clientWidth + 1)"
    assert page.evaluate(f"{wider}.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_board_of_a_few_rows_has_no_filter(chromium: Browser, tmp_path: Path) -> None:
    folder, plan = launched(tmp_path)
    train(folder, plan.trials())
    page = chromium.open(write_report(folder).page.as_uri())
    assert page.complaints() == []
    assert page.evaluate(
        "Array.from(document.querySelectorAll('.family'), (one) => one.querySelector('input') !== null)"
    ) == [
        True,
        False,
    ]
    page.click("document.querySelectorAll('.family')[1].querySelector('th[data-name=\"std\"] button')")


def test_four_hundred_configurations_make_a_page_of_a_few_megabytes(page_file: Path) -> None:
    assert page_file.stat().st_size < 10e6
