"""What options must fulfil together, checked once for each combination of the options that a rule reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from nnscan.dotted import is_dotted
from nnscan.errors import Problem
from nnscan.options.declared import KeyPath, show
from nnscan.options.tables import Resources


@dataclass(frozen=True)
class Rule:
    """A rule on the values of some options."""

    options: tuple[KeyPath, ...]
    """What it reads; it applies where all of these are among a configuration's options."""

    broken: Callable[..., str]
    """What is wrong with these values; "" where nothing is. The problem is shown at the first of the options."""


def _nesterov(nesterov: bool, momentum: float) -> str:
    return "found true; Nesterov's momentum needs optimizer.momentum above 0." if nesterov and not momentum else ""


def _smoothing(label_smoothing: float, loss: str) -> str:
    if label_smoothing and loss == "mse":
        return f'found {label_smoothing}; labels are smoothed with task.loss = "cross_entropy" alone.'
    return ""


CHANNELS = {"digits": "one", "mnist": "one", "fashion_mnist": "one", "mnist_pairs": "two"}
"""Of data in grey."""


def _three_channels(normalization: str, name: str) -> str:
    if normalization != "imagenet" or name not in CHANNELS:
        return ""
    return f'found "imagenet", which is for three channels; {show(name)} has {CHANNELS[name]}: write "standard".'


def _in_color(normalization: str, color: str) -> str:
    if normalization != "imagenet" or color != "grey":
        return ""
    return 'found "imagenet", which is for three channels: set data.color = "rgb", or normalization = "standard".'


def _pairs_of(task: str, data: str) -> str:
    if task != "pairs" or data == "mnist_pairs" or is_dotted(data):
        return ""
    return f'found "pairs", which compares two digits; {show(data)} has one. Set data.name = "mnist_pairs".'


def _heads_of(task: str, model: str) -> str:
    if is_dotted(task) or is_dotted(model) or (task == "pairs") == (model == "siamese"):
        return ""
    if task == "pairs":
        return f'found "pairs", which takes three outputs; {show(model)} has one. Accepted with it: "classification".'
    return f'found {show(task)}; {show(model)} has three outputs. Accepted with it: "pairs".'


def _compared(model: str, data: str) -> str:
    if model not in ("pair", "siamese") or data == "mnist_pairs" or is_dotted(data):
        return ""
    return f'found {show(model)}, which compares two images; {show(data)} has one. Set data.name = "mnist_pairs".'


def _some_loss(head_weight: float, digit_weight: float) -> str:
    return "" if head_weight or digit_weight else "found 0.0, and task.digit_weight too: nothing would be trained."


def _torchvision(name: str) -> str:
    if not name.startswith("torchvision:"):
        return ""
    from torchvision import models  # imports torch: only for who asks for one of its models

    known = models.list_models(module=models)
    model = name.removeprefix("torchvision:")
    return "" if model in known else f"found {show(name)}; torchvision has no such classifier.{_nearest(model, known)}"


def _weights(weights: str, name: str) -> str:
    if weights == "none" or weights.startswith("sha256:") or _torchvision(name):
        return ""
    from torchvision import models

    known = ["none", *(one.name for one in models.get_model_weights(name.removeprefix("torchvision:")))]
    accepted = ", ".join(map(show, known))
    return "" if weights in known else f"found {show(weights)}; accepted with {show(name)}: {accepted}."


def _warm_start(warm_start: str, weights: str) -> str:
    if "none" in (warm_start, weights):
        return ""
    return "replaces all weights, those of model.weights too: leave one of the two out."


def _nearest(model: str, known: list[str]) -> str:
    found = [show(f"torchvision:{name}") for name in get_close_matches(model, known, n=3)]
    return f" Did you mean {' or '.join(found)}?" if found else ""


RULES = (
    Rule((("optimizer", "nesterov"), ("optimizer", "momentum")), _nesterov),
    Rule((("task", "label_smoothing"), ("task", "loss")), _smoothing),
    Rule((("data", "normalization"), ("data", "name")), _three_channels),
    Rule((("data", "normalization"), ("data", "color")), _in_color),
    Rule((("task", "name"), ("data", "name")), _pairs_of),
    Rule((("task", "name"), ("model", "name")), _heads_of),
    Rule((("model", "name"), ("data", "name")), _compared),
    Rule((("task", "head_weight"), ("task", "digit_weight")), _some_loss),
    Rule((("model", "name"),), _torchvision),
    Rule((("model", "weights"), ("model", "name")), _weights),
    Rule((("training", "warm_start"), ("model", "weights")), _warm_start),
)


def rules_of(resources: Resources) -> tuple[Rule, ...]:
    """Return the rules that hold with `resources`."""
    batch = ("training", "batch_size"), ("training", "accumulation")
    function = Rule((("training", "function"),), partial(_function, resources))
    return (*RULES, Rule(batch, partial(_batch, resources.processes)), function)


def _batch(processes: int, batch_size: int, accumulation: int) -> str:
    parts = processes * accumulation
    if batch_size % parts == 0:
        return ""
    cuts = ((processes, "processes", "resources.processes_per_trial"), (accumulation, "parts", "training.accumulation"))
    made = [(f"{count} {what}", option) for count, what, option in cuts if count > 1]
    into, options = " x ".join(words for words, _ in made), " or ".join(option for _, option in made)
    return (
        f"found {batch_size}; a batch is cut into {into}: accepted are multiples of {parts}, such as"
        f" {_multiple(batch_size, parts)}. Or change {options}."
    )


def _multiple(count: int, of: int) -> int:
    """Return the multiple of `of` that is next to `count`."""
    return max(1, round(count / of)) * of


def _function(resources: Resources, function: str) -> str:
    if resources.processes == 1:
        return ""
    return (
        f"found {show(function)}; a training function is one process, and [resources] makes {resources.processes} of a"
        " trial: set resources.processes_per_trial = 1, resources.nodes_per_trial = 1 and at most one GPU."
    )


def resource_problems(resources: Resources) -> Iterator[Problem]:
    """Yield what does not fit together in `resources`."""
    processes, nodes, gpus, cpus = (
        resources.processes,
        resources.nodes_per_trial,
        resources.gpus_per_trial,
        resources.cpus,
    )
    if processes % nodes:
        yield Problem(
            "resources.processes_per_trial",
            f"{processes} processes cannot be spread evenly over {nodes} nodes; accepted: a multiple of"
            f" resources.nodes_per_trial, such as {_multiple(processes, nodes)}.",
        )
    if cpus % processes:
        yield Problem(
            "resources.cpus_per_trial",
            f"found {cpus}, which {processes} processes cannot share evenly; accepted: a multiple of {processes}, such"
            f" as {_multiple(cpus, processes)}.",
        )
    if (gpus > 1 or (gpus and processes > 1)) and gpus != processes:
        yield Problem(
            "resources.gpus_per_trial",
            f"found {gpus:g} for {processes} {'process' if processes == 1 else 'processes'}; each process of a trial"
            f" has a GPU of its own: set it to {processes}, or set resources.processes_per_trial ="
            f" {max(1, int(gpus))}, or leave that out.",
        )
