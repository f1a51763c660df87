from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trials import CNN, MLP

from nnscan.fusing import TOGETHER
from nnscan.models.build import build
from nnscan.training.fusion import choice
from nnscan.training.fusion.choice import SIZES, choose


def network(model: dict[str, Any]) -> nn.Module:
    return build(model, (1, 8, 8), 3)


def example(count: int = 16) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8)


def pairs() -> nn.Module:
    sizes = {"first_channels": 2, "second_channels": 3, "hidden_units": 4}
    return build({"name": "pair", **sizes, "batch_norm": True, "skip": False}, (2, 6, 6), 2)


def test_the_size_is_measured_once_a_shape_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = choose(network(MLP), example(), "auto", tmp_path)
    assert (found.size in SIZES, found.reason) == (True, "")
    [note] = tmp_path.iterdir()
    assert json.loads(note.read_text()) == {"size": found.size}
    monkeypatch.setattr(choice, "_fastest", lambda *_: pytest.fail("measured again"))
    assert choose(network(MLP), example(), "auto", tmp_path).size == found.size
    note.write_text('{"si')  # torn: measured again
    with pytest.raises(BaseException, match="measured again"):
        choose(network(MLP), example(), "auto", tmp_path)


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        ({1: 1.0, 4: 2.0, 16: 4.0, 64: 8.0}, 64),  # a step of many costs little more than one of one
        ({1: 1.0, 4: 2.0, 16: 16.0, 64: 64.0}, 4),  # the cache is full
        ({1: 1.0, 4: 4.0, 16: 16.0, 64: 64.0}, 1),  # nothing is gained
        ({1: 1.0, 4: 4.4, 16: 0.1, 64: 0.1}, 1),  # one that is slower ends the search
    ],
    ids=["overhead", "cache", "arithmetic", "slow"],
)
def test_the_fastest_size_a_network_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], size: int
) -> None:
    monkeypatch.setattr(choice, "_seconds", lambda model, example, network_of, count: seconds[count])
    assert choose(network(MLP), example(), "auto", tmp_path).size == size


@pytest.mark.parametrize(
    ("alone", "size", "is_alone"),
    [(0.4, 1, True), (0.49, 4, False), (0.6, 4, False)],
    ids=["faster", "as fast", "slower"],
)
def test_networks_of_pairs_that_are_faster_alone_stay_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: float, size: int, is_alone: bool
) -> None:
    monkeypatch.setattr(
        choice, "_seconds", lambda model, example, network_of, count: 1.0 if count == 1 else 0.5 * count
    )
    monkeypatch.setattr(choice, "_seconds_alone", lambda model, example: alone)
    for _ in range(2):  # measured, and remembered
        found = choose(pairs(), torch.rand(4, 2, 6, 6), "auto", tmp_path)
        assert (found.size, "alone" in found.reason) == (size, is_alone)
    assert choose(pairs(), torch.rand(4, 2, 6, 6), "3", tmp_path).size == 3


def test_more_networks_of_pairs_share_what_a_step_takes_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {1: 0.001, 4: 0.0042, 16: 0.0192}  # 1.6 ms, 1.2 and 1.24 a network
    monkeypatch.setattr(choice, "_seconds", lambda model, example, network_of, count: seconds[count])
    monkeypatch.setattr(choice, "_seconds_alone", lambda model, example: 0.0006)  # 1.2 ms: not faster by enough
    assert choose(pairs(), torch.rand(4, 2, 6, 6), "auto", tmp_path).size == 4


def test_to_measure_a_network_alone_leaves_it_as_it_is(tmp_path: Path) -> None:
    model, images = pairs(), torch.rand(4, 2, 6, 6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert choice._seconds_alone(model, images) > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())
    choose(model, images, "auto", tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_perceptrons_are_not_measured_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_seconds_alone", lambda *_: pytest.fail("measured"))
    assert choose(network(MLP), example(), "auto", tmp_path).reason == ""


def test_what_was_measured_where_more_memory_was_free_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_seconds", lambda *_: 1.0)
    assert choose(network(MLP), example(), "auto", tmp_path).size == 64
    monkeypatch.setattr(choice, "_fits", lambda model, example, size: size <= 16)
    assert choose(network(MLP), example(), "auto", tmp_path).size == 16


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")], ids=["python", "torch"])
def test_a_size_without_memory_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def seconds(model: nn.Module, example: torch.Tensor, network_of: Any, count: int) -> float:
        if count > 4:
            raise error
        return 1.0

    monkeypatch.setattr(choice, "_seconds", seconds)
    assert choose(network(MLP), example(), "auto", tmp_path / "a").size == 4
    monkeypatch.setattr(choice, "_free_bytes", lambda device: 0)
    assert choose(network(MLP), example(), "auto", tmp_path / "b").size == 1


def test_a_network_without_a_rule_of_its_own_is_trained_alone_unless_asked(tmp_path: Path) -> None:
    found = choose(network(CNN), example(), "auto", tmp_path)
    assert (found.size, bool(found.reason)) == (1, True)
    assert choose(network(CNN), example(), "3", tmp_path).size == 3


def test_exact_bits_leave_only_perceptrons_together(tmp_path: Path) -> None:
    assert choose(network(MLP), example(), "3", tmp_path, exact=True).size == 3
    found = choose(network(CNN), example(), "3", tmp_path, exact=True)
    assert (found.size, "deterministic" in found.reason) == (1, True)


@pytest.mark.parametrize("made", [lambda: network(MLP), lambda: network(CNN), pairs], ids=["mlp", "cnn", "pair"])
def test_the_networks_with_rules_of_their_own_are_those_that_a_launch_counts_on(
    made: Callable[[], nn.Module], request: pytest.FixtureRequest
) -> None:
    assert (choice._kind(made()) is not None) == (request.node.callspec.id in TOGETHER)


def test_what_vmap_refuses_is_trained_alone_though_asked(tmp_path: Path) -> None:
    model = network(CNN)
    next(model.parameters()).requires_grad_(False)
    found = choose(model, example(), "3", tmp_path)
    assert (found.size, "not trained" in found.reason) == (1, True)
