import re
from inspect import Parameter, signature
from pathlib import Path
from typing import get_args

import pytest

from nnscan.models.cnn import cnn
from nnscan.models.mlp import ACTIVATIONS, mlp
from nnscan.models.pairs import pair, siamese
from nnscan.models.torchvision_models import torchvision_model
from nnscan.options.tables import CNN, MLP, SECTIONS, EarlyStopping, Options, PairNetwork, TorchvisionModel
from nnscan.results.metric import METRICS


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (mlp, MLP),
        (cnn, CNN),
        (torchvision_model, TorchvisionModel),
        (pair, PairNetwork),
        (siamese, PairNetwork),
    ],
)
def test_a_network_takes_exactly_its_declared_options(network: object, options: type[Options]) -> None:
    taken = {p.name for p in signature(network).parameters.values() if p.kind is Parameter.KEYWORD_ONLY}  # type: ignore[arg-type]
    assert taken == set(options.model_fields) - {"name"}


def test_the_declared_activations_are_those_there_are() -> None:
    assert set(get_args(MLP.model_fields["activation"].annotation)) == set(ACTIVATIONS)


def test_what_stops_early_is_a_metric() -> None:
    assert set(get_args(EarlyStopping.model_fields["monitor"].annotation)) <= set(METRICS)


def all_options() -> list[type[Options]]:
    classes, found = [Options], []
    while classes:
        found += (subclasses := [c for parent in classes for c in parent.__subclasses__()])
        classes = subclasses
    return found


@pytest.mark.parametrize("options", all_options(), ids=lambda options: options.__name__)
def test_every_default_is_a_value_that_its_option_takes(options: type[Options]) -> None:
    defaults = {name: f.get_default() for name, f in options.model_fields.items() if not f.is_required()}
    read = options.model_validate(defaults | required(options))
    assert {name: getattr(read, name) for name in defaults} == defaults


def required(options: type[Options]) -> dict[str, object]:
    """A value for each option without a default."""
    examples = {"name": "a:b", "function": "a:b", "metrics": ["x"], "size": 8, "every": 2, "epochs": 3, "folds": 2}
    names = [name for name, field in options.model_fields.items() if field.is_required()]
    literals = get_args(options.model_fields["name"].annotation) if "name" in names else ()
    named = {"name": literals[0] if literals else "torchvision:x" if options is TorchvisionModel else "a:b"}
    return {name: ({**examples, **named})[name] for name in names}


def test_every_table_with_a_name_requires_it_or_has_one_class() -> None:
    for section, parts in SECTIONS.items():
        if len(parts) > 1 and section not in ("training", "task"):  # without a name a task is classification
            assert all(part.model_fields["name"].is_required() for part in parts)


def test_the_design_page_names_every_option() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "design.md").read_text()
    of_scans = [options for options in all_options() if options.__module__ == Options.__module__]
    names = {name for options in of_scans for name in options.model_fields}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", page)] == []
