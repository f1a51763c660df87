"""Weights out of files: read without running code, and fitted to a network or refused."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from nnscan.errors import DataError, ScanError
from nnscan.models import weights
from nnscan.models.build import build

CNN = {
    "name": "cnn",
    "channels": [4],
    "kernel_size": 3,
    "batch_norm": True,
    "dropout": 0.0,
    "skip": False,
    "hidden_units": 0,
}


def network(classes: int = 3, seed: int = 0, **changes: Any) -> nn.Module:
    return build({**CNN, **changes}, (1, 8, 8), classes, seed=seed)


def torch_saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def placed(content: bytes, folder: Path) -> str:
    """Put `content` where weights are looked for; return its SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    (folder / digest).write_bytes(content)
    return digest


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


SAVED = {
    "torch": torch_saved,
    "torch, as before 1.6": lambda state: torch_saved(state, _use_new_zipfile_serialization=False),
    "safetensors": safetensors.torch.save,
}


@pytest.mark.parametrize("how", SAVED)
def test_a_state_dict_is_read_whatever_the_file_is_called(how: str, tmp_path: Path) -> None:
    state = network().state_dict()
    digest = placed(SAVED[how](state), tmp_path)
    weights.of_digest.cache_clear()
    assert equal(dict(weights.of_digest(digest, tmp_path)), state)


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"code out of files.*torch\.save\(model\.state_dict"):
        weights.parse(torch_saved(Touches(tmp_path / "made")), Path("evil.pt"))
    assert not (tmp_path / "made").exists()


def broken(state: dict[str, Tensor]) -> bytes:
    """Return a file in which a bit of a weight is flipped."""
    weight = state["2.weight"].numpy().tobytes()
    return torch_saved(state).replace(weight, bytes([weight[0] ^ 1]) + weight[1:])


UNREADABLE = {
    "nothing": (b"", "damaged, or no file of weights"),
    "text": (b"these are no weights at all", "damaged, or no file of weights"),
    "cut off": (torch_saved(network().state_dict())[:-100], "damaged, or no file of weights"),
    "a flipped bit": (broken(dict(network().state_dict())), "in it is damaged"),
    "safetensors, cut off": (safetensors.torch.save(network().state_dict())[:-9], "damaged, or no file of weights"),
    "a tensor": (torch_saved(torch.zeros(3)), "holds a Tensor, no dict of tensors"),
    "a whole network": (torch_saved(nn.Linear(1, 1)), "holds more than tensors"),
    "a checkpoint": (
        torch_saved({"epoch": 3, "model_state_dict": {"weight": torch.zeros(2)}, "val_losses": [0.5]}),
        r"a dict of epoch, model_state_dict, val_losses.*torch\.load\(file\)\['model_state_dict'\]",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_holds_no_weights_is_told_with_the_way_out(case: str) -> None:
    content, told = UNREADABLE[case]
    with pytest.raises(DataError, match=told) as caught:
        weights.parse(content, Path("mine.pt"))
    assert "mine.pt" in str(caught.value)


def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    digest = placed(torch_saved(network().state_dict()), tmp_path)
    (tmp_path / digest).write_bytes(torch_saved(network(seed=1).state_dict()))
    weights.of_digest.cache_clear()
    with pytest.raises(DataError, match="is damaged: its SHA-256 is not"):
        weights.of_digest(digest, tmp_path)


# ---------------------------------------------------------------------------------------------- warm start


def test_a_warm_start_takes_every_weight(tmp_path: Path) -> None:
    trained = network(seed=1).state_dict()
    model = network(seed=2)
    digest = placed(safetensors.torch.save(trained), tmp_path)
    assert weights.start_from(f"sha256:{digest}", model, tmp_path) == ()
    assert equal(model.state_dict(), trained)


def test_none_starts_anew() -> None:
    model = network(seed=2)
    assert weights.start_from("none", model) == ()
    assert equal(model.state_dict(), network(seed=2).state_dict())


def test_of_a_head_for_other_classes_nothing_is_taken_and_all_else_is() -> None:
    trained, fresh, model = (network(classes=5, seed=1).state_dict(), network(seed=2).state_dict(), network(seed=2))
    anew = weights.warm_start(model, trained, "mine")
    assert anew == ("2.weight", "2.bias")
    own = model.state_dict()
    assert all(torch.equal(value, (fresh if name in anew else trained)[name]) for name, value in own.items())


@pytest.mark.parametrize("prefix", weights.WRAPPERS)
def test_a_wrapped_network_has_the_same_weights(prefix: str) -> None:
    trained, model = network(seed=1).state_dict(), network(seed=2)
    assert weights.warm_start(model, {prefix + name: value for name, value in trained.items()}, "mine") == ()
    assert equal(model.state_dict(), trained)


def test_plain_weights_fit_a_wrapped_network() -> None:
    wrapped = nn.ModuleDict({"network": network(seed=2)})
    trained = network(seed=1).state_dict()
    assert weights.warm_start(wrapped, trained, "mine") == ()
    assert equal(wrapped["network"].state_dict(), trained)


UNFIT = {
    "wider": (
        network(channels=[6]).state_dict(),
        r"'0\.convolution\.weight' is \(6, 1, 3, 3\) there and \(4, 1, 3, 3\)",
    ),
    "deeper": ({**network().state_dict(), "3.weight": torch.zeros(3)}, r"'3.weight' is \(3,\) there and missing here"),
    "shallower": ({"2.weight": torch.zeros(3, 64)}, r"is missing there"),
    "of other images": (build(CNN, (1, 4, 4), 3).state_dict(), r"'2\.weight' is \(3, 16\) there and \(3, 64\) here"),
    "of other images and classes": (build(CNN, (1, 4, 4), 5).state_dict(), r"'2\.weight' is \(5, 16\) there"),
    "nothing": ({}, "is missing there"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_weights_of_another_network_are_refused(case: str) -> None:
    given, told = UNFIT[case]
    model = network()
    with pytest.raises(ScanError, match=rf"training\.warm_start: mine are of another network: .*{told}"):
        weights.warm_start(model, given, "mine")
    assert equal(model.state_dict(), network().state_dict())
