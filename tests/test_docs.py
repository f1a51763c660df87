"""What the pages say is so: examples run, links lead somewhere, tables are those of the code."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
import torch
import typer
from pages import PAGES, ROOT, Block, anchors, blocks, code_lines, links, tables, write_files
from typer.testing import CliRunner

from nnscan import scan, toml
from nnscan.cli import app
from nnscan.errors import ScanError
from nnscan.models.folder import load_model
from nnscan.options import declared
from nnscan.options import tables as option_tables
from nnscan.options.tables import SECTIONS, VALIDATION, Arguments, Options, Resources, Selection
from nnscan.resolve import PASSED
from nnscan.results.folder import ScanFolder
from nnscan.results.metric import METRICS
from nnscan.results.schema import EPOCHS_FIRST, EPOCHS_LAST, NAMES, STEPS, TRIALS, Schemas
from nnscan.results.selection import tie_factor, validation_ratio

torch.set_num_threads(1)

DOCS = ROOT / "docs"
EPOCHS = 3
"""Of all trainings here."""


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


# ---------------------------------------------------------------------------------------------- links, commands


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_every_page_stands_in_the_index() -> None:
    index = DOCS / "README.md"
    assert {page.name for page in PAGES if page.parent == DOCS} - {index.name} <= set(links(index))


def commands(line: str) -> Iterator[list[str]]:
    """Yield the words behind each `nnscan` that a line types, without comments and descriptions."""
    line = re.split(r"\s+#|\s{3,}", line.strip())[0]
    for part in re.split(r"\|\||&&|\||>", line):
        try:
            words = shlex.split(part)
        except ValueError:
            continue  # prose with an apostrophe
        words = words[2:] if words[:2] == ["python", "-m"] else words
        if len(words) > 1 and words[0] == "nnscan":
            yield words[1:]


def documented_commands() -> list[tuple[str, list[str]]]:
    lines = [(page_id(page), line) for page in PAGES for line in code_lines(page)]
    for job in sorted(ROOT.glob("jobs/*.toml")):
        comments = [line.strip("# ") for line in job.read_text().splitlines() if line.startswith("#")]
        lines += [(page_id(job), comment) for comment in comments]
    found = [(where, words) for where, line in lines for words in commands(line)]
    return [(where, words) for where, words in found if words[0].islower() or words[0].startswith("-")]


def test_there_are_documented_commands() -> None:
    assert len(documented_commands()) > 20


@pytest.mark.parametrize(
    ("where", "words"), documented_commands(), ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_documented_commands_have_the_options_that_are_shown(where: str, words: list[str]) -> None:
    group = typer.main.get_command(app)
    context = typer.Context(group)
    command = group if words[0].startswith("-") else group.get_command(context, words[0])  # type: ignore[attr-defined]
    assert command is not None, f"{where}: there is no command {words[0]}"
    known = {name for option in command.get_params(context) for name in option.opts}
    shown = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert shown <= known, f"{where}: nnscan {words[0]} has no {shown - known}"


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        words[1] for page in PAGES for line in code_lines(page) if len(words := line.split()) > 1 and words[0] == "make"
    }
    assert shown
    assert shown <= targets


# ---------------------------------------------------------------------------------------------- examples


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def run(block: Block) -> str:
    """Run an example as its reader would, but in this process; return what commands print."""
    if block.language == "python":
        exec(compile(block.text, "<example>", "exec"), {"__name__": "__main__"})
        return ""
    if block.language == "toml":
        scan.read(block.text, "example.toml")
        return ""
    assert block.language == "sh"
    return "".join(nnscan(words) for line in block.text.splitlines() for words in commands(line))


def nnscan(words: list[str]) -> str:
    inline = ["--cluster", "inline"] if words[0] in ("launch", "retrain-best") else []
    fewer = ["--set", f"training.epochs={EPOCHS}"] if words[0] == "launch" else []  # seconds, and the same road
    result = CliRunner().invoke(app, [*words, *inline, *fewer], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("page", sorted({*PAGES} - {DOCS / "design.md"}), ids=page_id)  # that one lists signatures
def test_python_compiles_and_scan_files_are_accepted(page: Path, place: Path) -> None:
    write_files(page, place)
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "toml" and "[[grid]]" in block.text:
            scan.read(block.text, "example.toml")
        elif block.language == "toml":
            tomllib.loads(block.text)


def test_every_page_with_an_example_to_run_has_a_test_that_runs_it() -> None:
    marked = {page.name for page in PAGES if any(block.runs for block in blocks(page))}
    assert marked == {"own_task.md", "own_training.md", "scan_file.md", "tables.md"}


def test_a_training_function_of_ones_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = DOCS / "own_training.md"
    write_files(page, place)
    printed = "".join(run(block) for block in blocks(page) if block.runs)
    assert "12 trials: 12 completed" in printed
    trials = pandas.read_parquet("scans/rows/trials").set_index("kind")
    assert trials.loc["trial", "accuracy"].max() > 0.7
    assert (trials.loc["trial", "score"] == trials.loc["trial", "accuracy"]).all()

    retrained = trials.loc["retraining"]
    assert retrained["accuracy"] > 0.7
    assert "accuracy" in capsys.readouterr().out  # the last example prints it
    assert pandas.isna(retrained["score"])  # what was measured on the test set chose nothing
    epochs = pandas.read_parquet("scans/rows/epochs")
    last = epochs[(epochs.kind == "retraining") & (epochs.epoch == retrained["epochs"])]
    assert last.accuracy.item() == retrained["accuracy"]


def test_a_task_of_ones_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = DOCS / "own_task.md"
    write_files(page, place)
    printed = "".join(run(block) for block in blocks(page) if block.runs)
    assert "8 trials: 8 completed" in printed
    assert "test_ink_error" in capsys.readouterr().out  # the last example prints it
    trials = pandas.read_parquet("scans/halves/trials").set_index("kind")
    assert trials.loc["trial", "val_accuracy"].max() > 0.6
    assert (trials.loc["trial", "val_ink_error"] > 0).all()
    assert trials.loc["trial", "test_ink_error"].isna().all()
    retrained = trials.loc["retraining"]
    model = load_model(Path("scans/halves/models/Halves"))
    assert model.card.results["test_ink_error"] == retrained["test_ink_error"]

    data = importlib.import_module("halves").halves()
    (upper, lower), targets = data["train"]
    found = model.predict([torch.tensor(half, dtype=torch.float32) for half in (upper, lower)])
    assert (found.argmax(1) == torch.tensor(targets[:, 0])).double().mean() > 0.6


def test_the_example_of_a_training_function_runs_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(DOCS / "own_training.md", place)
    monkeypatch.syspath_prepend(str(place))
    rows = importlib.import_module("rows")
    *_, last = rows.train(fold=0, folds=3, seed=0, epochs=6)
    assert set(last) == {"accuracy", "loss"}
    assert last["accuracy"] > 0.8


def test_the_arguments_that_are_passed_to_a_training_function_are_told() -> None:
    told = {cells[0].strip("`") for table in tables((DOCS / "own_training.md").read_text()) for cells in table}
    assert told == PASSED["training"]


def test_the_scan_file_shown_spans_what_its_comments_say(place: Path) -> None:
    (block,) = (block for block in blocks(DOCS / "scan_file.md") if block.runs)
    read = scan.read(block.text, "example.toml")
    mlp, cnn = read.grids
    assert (mlp.count, cnn.count) == (4, 8)
    coupled = {(c["optimizer"]["learning_rate"], c["training"]["batch_size"]) for c in settings(read, "CNN")}
    assert coupled == {(0.1, 128), (0.01, 32)}


def settings(read: scan.Scan, family: str) -> list[dict]:
    from nnscan.grid import configurations

    return [one.settings for one in configurations(read) if one.family == family]


@pytest.mark.parametrize(
    ("n", "validation"),
    [(3, {"folds": 3}), (5, {"folds": 5}), (10, {"folds": 10}), (10, {"folds": 5})],
    ids=["3 folds", "5 folds", "10 folds", "5 folds, 2 replicates"],
)
def test_the_factors_of_ties_are_those_of_the_code(
    n: int, validation: dict[str, int], request: pytest.FixtureRequest
) -> None:
    (table,) = tables((DOCS / "choosing.md").read_text())
    told = {validation: factor for _, validation, factor in table}
    assert told[request.node.callspec.id] == f"{tie_factor(n, validation_ratio(validation)):.2f} s_d"


def test_the_message_of_a_wrong_scan_file_is_the_one_shown() -> None:
    parts = 'model.name = "mlp"\noptimizer.name = "adam"\noptimizer.leraning_rate = [0.1]'
    wrong = f'[data]\nname = "digits"\n[[grid]]\nfamily = "MLP"\n{parts}'
    with pytest.raises(ScanError) as error:
        scan.read(wrong, "jobs/mine.toml")
    page = re.sub(r"^    ", "", (DOCS / "failures.md").read_text(), flags=re.MULTILINE)
    for line in str(error.value).splitlines():
        start, takes, _ = line.partition("It takes:")
        assert start + takes in page


def examples() -> list[str]:
    """Modules whose docstrings hold examples; the others need not be imported."""
    modules = [path for path in sorted((ROOT / "nnscan").rglob("*.py")) if ">>> " in path.read_text()]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules]


@pytest.mark.parametrize("module", examples())
def test_examples_in_docstrings_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


# ---------------------------------------------------------------------------------------------- tables of options


TABLE_OF = {
    option_tables.Augmentation: "data.augmentation",
    option_tables.EarlyStopping: "training.early_stopping",
    **dict.fromkeys((option_tables.Constant, option_tables.Step), "optimizer.schedule"),
    **dict.fromkeys((option_tables.Cosine, option_tables.OneCycle), "optimizer.schedule"),
    **{part: section for section, parts in SECTIONS.items() for part in parts},
    **dict.fromkeys((*VALIDATION, option_tables.Validation), "validation"),
    option_tables.Data: "data",
    Selection: "selection",
    Resources: "resources",
}
"""Where the options of each class stand in a scan file."""


def documented_options() -> dict[str, list[list[str]]]:
    """Rows of each table of the page, by the classes that it says it shows."""
    page = (DOCS / "scan_file.md").read_text()
    marked = re.findall(r"<!-- options of ([\w, ]+) -->\n\n((?:\|.*\n)+)", page)
    return {name: next(tables(text)) for names, text in marked for name in [names]}


def declared_options(part: type[Options]) -> Iterator[list[str]]:
    """Yield what the page has to say of each option that a class declares itself: key, what it takes, default."""
    for name in part.__annotations__:
        field = part.model_fields.get(name)
        if field is None or declared._inner(field.annotation):
            continue
        default = "required" if field.is_required() else f"`{toml.value(field.get_default())}`"
        takes = "a table" if field.annotation == Arguments else declared.accepted(declared._type_of(field))
        yield [f"`{TABLE_OF[part]}.{name}`", takes, default]


def classes_of_options() -> set[type[Options]]:
    return {one for one in vars(option_tables).values() if isinstance(one, type) and issubclass(one, Options)} - {
        Options
    }


def test_every_class_of_options_has_its_table() -> None:
    shown = [name for names in documented_options() for name in names.split(", ")]
    assert sorted(shown) == sorted(part.__name__ for part in classes_of_options())


@pytest.mark.parametrize("names", documented_options())
def test_the_tables_of_options_are_those_of_the_code(names: str) -> None:
    expected = [row for name in names.split(", ") for row in declared_options(getattr(option_tables, name))]
    assert [row[:3] for row in documented_options()[names]] == expected


# ---------------------------------------------------------------------------------------------- tables of results


TYPES = {"list<double>": "list of double"}


def told_columns(heading: str) -> dict[str, str]:
    """Column and type, in the order of the page, of all tables below a heading."""
    section = re.split(r"^## ", (DOCS / "tables.md").read_text().split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]
    return {row[0].strip("`"): row[1] for table in tables(section) for row in table}


def columns_of(types: dict) -> dict[str, str]:
    return {name: TYPES.get(NAMES[type_], NAMES[type_]) for name, type_ in types.items()}


def test_the_columns_of_trials_are_told() -> None:
    schema = Schemas.of({}).trials
    assert told_columns("trials/") == columns_of({field.name: field.type for field in schema})
    assert list(told_columns("trials/"))[: len(TRIALS)] == list(TRIALS)
    assert list(told_columns("trials/"))[len(TRIALS) :] == list(METRICS)


def test_the_columns_of_epochs_and_steps_are_told() -> None:
    assert told_columns("epochs/") == {**columns_of(EPOCHS_FIRST), "metrics": "", **columns_of(EPOCHS_LAST)}
    assert told_columns("steps/") == columns_of(STEPS)


def test_the_columns_of_the_plan_are_told() -> None:
    from nnscan.plan import SCHEMA

    assert list(told_columns("plan.parquet")) == SCHEMA.names


def test_the_folder_is_drawn_whole() -> None:
    drawing = (DOCS / "tables.md").read_text().split("\n## The folder\n")[1]
    folder = ScanFolder(Path("scans/digits"))
    named = {name: getattr(folder, name).name for name, part in vars(ScanFolder).items() if isinstance(part, property)}
    assert {path for path in named.values() if path not in drawing} == set()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the digits scan was launched, for a few epochs, and its winners retrained."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        nnscan(["launch", "digits"])
        nnscan(["retrain-best", "digits"])
    return folder


def test_the_three_questions_are_answered(
    digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(digits)
    for block in blocks(DOCS / "tables.md"):
        if block.runs:
            run(block)
    printed = capsys.readouterr().out
    for answer in ("optimizer.learning_rate", "accuracy", "parameters"):
        assert answer in printed


def test_pandas_duckdb_and_polars_find_what_summarize_finds(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnscan.results.summary import summarize_folder

    monkeypatch.chdir(digits)
    (leader, *_), *_ = (family.leaders for family in summarize_folder(ScanFolder(Path("scans/digits"))).families)
    first, by_width, by_epoch, cost = (block.text for block in blocks(DOCS / "tables.md") if block.runs)

    names: dict = {}
    exec(first, names)
    assert set(names["trials"].kind) == {"trial", "retraining"}
    exec(by_width.replace("print(", "answer = ("), names)
    answer = names["answer"].loc[
        tuple(leader.hyperparameters[path] for path in ("model.width", "optimizer.learning_rate"))
    ]
    assert answer["mean"] == pytest.approx(leader.mean)
    assert answer["std"] == pytest.approx(leader.std)
    assert answer["count"] == leader.n

    exec(by_epoch, names)
    curves = names["curves"].fetchall()
    assert [row[:2] for row in curves] == [(family, epoch) for family in ("CNN", "MLP") for epoch in range(EPOCHS + 1)]
    exec(cost, names)
    row = next(row for row in names["cost"].to_dicts() if row["configuration"] == leader.configuration)
    assert row["score"] == pytest.approx(leader.mean)
    assert row["parameters"] == leader.parameters


MODEL_FILES = {"model.safetensors", "model.json", "predictions.parquet", "examples.parquet"}


def test_the_folder_of_a_launched_scan_holds_what_is_drawn(digits: Path) -> None:
    drawing = (DOCS / "tables.md").read_text().split("\n## The folder\n")[1]
    for path in (digits / "scans" / "digits").iterdir():
        assert path.name in drawing
    for model in (digits / "scans" / "digits" / "models").iterdir():
        assert {file.name for file in model.iterdir()} == MODEL_FILES


def test_the_page_of_results_is_made_of_the_scan(
    digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(digits)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    importlib.import_module("results").main([])
    page = capsys.readouterr().out
    assert "8 configurations, 24 trials: 24 completed." in page
    trials = pandas.read_parquet("scans/digits/trials")
    *boards, retrained = tables(page)
    assert [len(board) for board in boards] == [4, 4]
    assert [board[0][-1] for board in boards] == ["wins", "wins"]
    told = {cells[0]: float(cells[4].split("**")[1]) for cells in retrained}
    expected = trials[trials.kind == "retraining"].set_index("family").test_accuracy
    assert told == {family: pytest.approx(value, abs=1e-4) for family, value in expected.items()}
