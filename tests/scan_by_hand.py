"""A scan made by hand, for tests that read results: six configurations, three folds, no training."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from nnscan.identity import configuration_key, trial_key
from nnscan.results import summary
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer
from nnscan.results.schema import TRIALS, Schemas, hyperparameters, write_schemas
from nnscan.trial import Kind

SETTINGS = {
    "model": {"name": "mlp", "width": 64, "channels": [8, 8]},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "validation": {"folds": 3, "stratified": True},
}
WIDTHS = (32, 64, 128)
RATES = (0.1, 0.001)
TEXT, NUMBER = pa.string(), pa.int32()
PLAN = pa.schema({"key": TEXT, "configuration": TEXT, "family": TEXT, "fold": NUMBER, "replicate": NUMBER})


def configuration(width=64, rate=0.001, optimizer="adam"):
    """Settings with these values; sgd has a momentum, adam has none."""
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    return {
        **SETTINGS,
        "model": {**SETTINGS["model"], "width": width},
        "optimizer": {"name": optimizer, "learning_rate": rate, **momentum},
    }


GRID = [configuration(width, rate) for width in WIDTHS for rate in RATES]


def key_of(point, fold=0, replicate=0, kind=Kind.TRIAL, epochs=0):
    return trial_key(configuration_key(point), kind=kind, epochs=epochs, fold=fold, replicate=replicate)


def plan_of(families, folds=3, replicates=1):
    """A plan of `{family: configurations}`."""
    rows = [
        (key_of(point, fold, replicate), configuration_key(point), family, fold, replicate)
        for family, points in families.items()
        for point in points
        for replicate in range(replicates)
        for fold in range(folds)
    ]
    return pa.Table.from_pylist([dict(zip(PLAN.names, row, strict=True)) for row in rows], schema=PLAN)


def row_of(point, fold=0, score=0.5, *, replicate=0, **changes):
    """A row of trials/ as a dictionary."""
    return {
        "trial": key_of(point, fold, replicate),
        "configuration": configuration_key(point),
        "kind": "trial",
        "status": "completed",
        "failure": "",
        "error": "",
        "attempt": 1,
        "metric": "val_accuracy",
        "score": score,
        "best_epoch": 2 + fold,
        "parameters": 10 * point["model"]["width"],
        "seconds": 1.0 + fold,
        "epochs": 5,
        "replicate": replicate,
        **{f"{table}.{name}": value for table, values in point.items() for name, value in values.items()},
        **changes,
    }


def trials_of(rows, points=GRID):
    columns = {name: TRIALS[name] for name in summary.TRIALS_COLUMNS} | hyperparameters(points)
    return pa.table({name: pa.array([row.get(name) for row in rows], t) for name, t in columns.items()})


def all_scored(score, points=GRID):
    """A row for each of three folds of each point; `score(index, fold)`."""
    return [row_of(point, fold, score(index, fold)) for index, point in enumerate(points) for fold in range(3)]


def write_scan(path, points=GRID, metric="val_accuracy"):
    """A launched scan: scan file, plan, schema."""
    folder = ScanFolder(path)
    path.mkdir(exist_ok=True, parents=True)
    folder.scan_file.write_text(f'name = "s"\n[selection]\nmetric = "{metric}"\n')
    schemas = Schemas.of(hyperparameters(points))
    axes = {"MLP": [("model.width", WIDTHS), ("optimizer.learning_rate", RATES)]}
    told = json.dumps({"axes": axes, "schemas": schemas.to_json()})
    table, texts = plan_of({"MLP": points}), {configuration_key(point): json.dumps(point) for point in points}
    settings = pa.array([texts[key] for key in table["configuration"].to_pylist()]).dictionary_encode()
    pq.write_table(table.append_column("settings", settings).replace_schema_metadata({"nnscan": told}), folder.plan)
    write_schemas(folder, schemas)
    return folder


PLACE = {"host": "h", "device": "cpu", "threads": 1, "processes": 1, "fused": 1, "launch": "l"}
END = {"status": "completed", "failure": "", "error": "", "traceback": "", "metric": "val_accuracy", "best_epoch": 1}


def start_of(point, fold):
    key = {"trial": key_of(point, fold), "configuration": configuration_key(point), "attempt": 1}
    return {**key, "families": ["MLP"], "kind": "trial", "fold": fold, "replicate": 0, "epochs": 2, "settings": point}


def write_bundle(folder, name, trials):
    """Train `(point, fold, score)` by hand: two epochs each, the second the better."""
    writer = Writer(folder, name, PLACE)
    for point, fold, score in trials:
        key = key_of(point, fold)
        writer.start(start_of(point, fold))
        for epoch, (accuracy, loss) in enumerate([(score / 2, 1 - score), (score, 2.0)]):
            writer.epoch({"trial": key, "epoch": epoch, "metrics": {"val_accuracy": accuracy, "val_loss": loss}})
        writer.end({"trial": key, **END, "score": score, "epochs_run": 1, "parameters": 10, "seconds": 1.0})
    return writer
