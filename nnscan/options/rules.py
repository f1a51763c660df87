"""What options must fulfil together, checked once for each combination of the options that a rule reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from nnscan.options.declared import KeyPath, show


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


def _nearest(model: str, known: list[str]) -> str:
    found = [show(f"torchvision:{name}") for name in get_close_matches(model, known, n=3)]
    return f" Did you mean {' or '.join(found)}?" if found else ""


RULES = (
    Rule((("optimizer", "nesterov"), ("optimizer", "momentum")), _nesterov),
    Rule((("task", "label_smoothing"), ("task", "loss")), _smoothing),
    Rule((("model", "name"),), _torchvision),
    Rule((("model", "weights"), ("model", "name")), _weights),
)
