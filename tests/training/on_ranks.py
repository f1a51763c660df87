"""What the ranks of a group do in tests: each function is called on all of them and gives JSON values."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import several
import torch
import trials
from torch import Tensor, nn

from nnscan.allocation import Allocation, AllocationEndedError, Reason
from nnscan.data.dataset import Dataset, load
from nnscan.errors import StoreError
from nnscan.launch_folder import Launch
from nnscan.models.build import build
from nnscan.results.folder import ScanFolder
from nnscan.tasks.pairs import Pairs
from nnscan.training import checkpoint, loop, network
from nnscan.training.batch_norm import Presence, synchronize
from nnscan.training.early_stopping import stop
from nnscan.training.group import ALONE, Group
from nnscan.training.network import NetworkTraining
from nnscan.training.place import Place
from nnscan.training.state import TrainingState, begin, start_epoch
from nnscan.training.trial_data import TrialData
from nnscan.trial import Kind, Trial

# ---------------------------------------------------------------------------------------------- networks


class InFloat64(nn.Module):
    """A network that computes in float64 on float32 inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs.double())


def mlp64(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return InFloat64(build(trials.MLP, input_shape, classes, seed=7))


def cnn64(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return InFloat64(build(trials.CNN, input_shape, classes, seed=7))


class Unusual(nn.Module):
    """Takes no empty batch, leaves a branch unused in most steps, normalises without running statistics, shares."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, 12)
        self.normalization = nn.BatchNorm1d(12, track_running_stats=False)
        self.same = self.normalization
        self.rare = nn.Linear(12, 12)
        self.never = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(12), requires_grad=False)
        self.head = nn.Linear(12, classes)
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        if not len(images):
            raise ValueError("no images")
        self.passes += self.training
        hidden = self.normalization(self.first(images.view(len(images), -1))) * self.frozen
        if self.passes % 5 == 0:
            hidden = self.same(self.rare(hidden))
        return self.head(hidden.relu())


def unusual64(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    torch.manual_seed(3)
    return InFloat64(Unusual(input_shape[0] * input_shape[1] * input_shape[2], classes))


class OwnNormalization(nn.BatchNorm1d):
    """A batch normalisation in a way of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def own_normalization(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), OwnNormalization(64), nn.Linear(64, classes))


SIAMESE = {
    "name": "siamese",
    "first_channels": 4,
    "second_channels": 5,
    "hidden_units": 6,
    "batch_norm": True,
    "skip": True,
}


def siamese64(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    scores = Pairs().scores
    return InFloat64(build(SIAMESE, input_shape, classes, seed=7, scores=scores))


def named(function: Callable[..., nn.Module]) -> dict[str, Any]:
    """Return the table `model` that names a function of this module."""
    return {"name": f"on_ranks:{function.__name__}", "arguments": {}}


# ---------------------------------------------------------------------------------------------- the group


def ask(group: Group) -> dict[str, Any]:
    """Ask the group everything."""
    rank = group.rank
    last = rank == group.size - 1
    return {
        "add": group.add(torch.tensor([[1.0, rank]]).T).tolist(),
        "add integers": group.add(torch.tensor(2**40 + rank)).item(),
        "agree": [group.agree(False), group.agree(last), group.agree(True)],
        "soon": [group.soon(flag) for flag in (last, False, rank == 0, True, False)],
        "stack": group.stack(torch.tensor([rank, 7])).tolist(),
        "gather": group.gather(torch.full((rank, 2), float(rank))).tolist(),
        "gather nothing": list(group.gather(torch.zeros(0, 3)).shape),
        "tell": [group.tell(content).decode() for content in (f"of {rank}".encode(), b"")],
        "share": [group.share(10).start, group.share(10).stop],
    }


def sum_numbers(group: Group, count: int) -> list[float]:
    """Return the sum of the ranks' numbers."""
    return list(group.add(numbers(group.rank, count)).tolist())


def numbers(rank: int, count: int) -> Tensor:
    """Return numbers of so different sizes that the order in which they are added up would show."""
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(count, generator=generator) * 10 ** (3 * torch.rand(count, generator=generator))


def differentiate(group: Group) -> dict[str, Any]:
    """Return the gradients after a pass in which each rank used other parameters of a network, and one none of some."""
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ("a", "b", "never")})
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    storages = [parameter.grad.data_ptr() for parameter in model.parameters() if parameter.grad is not None]

    class Chosen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, inputs: Tensor) -> Tensor:
            return self.parts["a" if group.rank else "b"](inputs)

    parallel = group.parallel(Chosen())
    gradients = []
    for _ in range(3):
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()
        parallel(torch.tensor([[2.0 + group.rank]])).sum().backward()
        gradients.append([parameter.grad.item() for parameter in model.parameters() if parameter.grad is not None])
    after = [parameter.grad.data_ptr() for parameter in model.parameters() if parameter.grad is not None]
    return {"gradients": gradients, "in place": after == storages}


# ---------------------------------------------------------------------------------------------- batch normalisation


def normalize(group: Group, case: dict[str, Any]) -> dict[str, Any]:
    """Take two steps and an evaluation of a batch normalisation on this rank's share of each batch."""
    module = normalization(case)
    presence = Presence(group)
    synchronize(module, presence)
    found: list[Any] = []
    for step, sizes in enumerate(case["sizes"]):
        inputs, slopes = batch(case, step, sum(sizes))
        start = sum(sizes[: group.rank])
        mine = slice(start, start + sizes[group.rank])
        presence.counts = mine.stop > mine.start
        if not presence.counts:
            inputs, slopes, mine = inputs * 1e3, slopes * 0, slice(0, 1)
        own = inputs[mine].clone().requires_grad_()
        outputs = module(own)
        (outputs * slopes[mine]).sum().backward()
        assert presence.counts or not gradient(own).any()
        kept = slice(None) if presence.counts else slice(0)
        found.append([outputs[kept].tolist(), gradient(own)[kept].tolist()])
    return {"steps": found, **state_of(module, group)}


def normalization(case: dict[str, Any]) -> nn.Module:
    """Return the module of a case, in float64, with weights that are not all alike."""
    module: nn.Module = getattr(nn, case["kind"])(3, **case["options"]).double()
    for number, parameter in enumerate(module.parameters(), start=1):
        with torch.no_grad():
            parameter.copy_(torch.linspace(-1, 2, 3) * number)
    return module.eval() if case.get("eval") else module


def batch(case: dict[str, Any], step: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the inputs of a step, far from 0, and what the loss weighs each output with."""
    generator = torch.Generator().manual_seed(step)
    shape = (2, count, 3, *case["shape"])
    inputs, slopes = torch.randn(shape, generator=generator, dtype=torch.float64)
    return inputs * torch.linspace(1, 4, count).double().view(-1, *[1] * (inputs.dim() - 1)) + 5, slopes


def gradient(values: Tensor) -> Tensor:
    """Return the gradient of `values`."""
    assert values.grad is not None
    return values.grad


def state_of(module: nn.Module, group: Group = ALONE) -> dict[str, Any]:
    """Return gradients by parameters, of all ranks together, and buffers."""
    gradients = {name: group.add(gradient(value)).tolist() for name, value in module.named_parameters()}
    buffers = {name: value.tolist() for name, value in module.named_buffers()}
    return {"gradients": gradients, "buffers": buffers, "names": list(module.state_dict())}


def normalize_in_bfloat16(group: Group) -> dict[str, Any]:
    """Return the dtype and the largest distance from float32 of a normalisation of bfloat16."""
    module, whole = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    synchronize(module, Presence(group))
    inputs = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    own = inputs[group.share(8)].clone().requires_grad_()
    outputs = module(own)
    outputs.float().square().sum().backward()
    expected = whole(inputs.float())[group.share(8)]
    close = (outputs.float() - expected).abs().max().item()
    return {"dtypes": [str(outputs.dtype), str(gradient(own).dtype)], "distance": close}


# ---------------------------------------------------------------------------------------------- training


def digest(tensors: list[Tensor]) -> str:
    """Return a digest of the bits of tensors."""
    found = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


class Recorder:
    """Asked after each step, it notes the loss of its batch, of all ranks, and interrupts nothing."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        self.before = 0.0
        self.examples = 0
        self.losses: list[float] = []

    def __call__(self) -> bool:
        sums = self.state.sums
        if self.state.step == 1:
            self.before, self.examples = 0.0, 0
        total = self.state.group.add(sums.loss).item()
        self.losses.append((total - self.before) / (sums.examples - self.examples))
        self.before, self.examples = total, sums.examples
        return False


def train(
    group: Group, changes: dict[str, Any], of: dict[str, Any] | None = None, weights: str = "nowhere"
) -> dict[str, Any]:
    """Train a trial to its end, and test it."""
    return train_on(group, changes, trials.dataset(**(of or {})), Path(weights))


def train_several(group: Group, changes: dict[str, Any]) -> dict[str, Any]:
    """Train a trial of several inputs, outputs and targets; of 4 ranks one has no share in the test."""
    return train_on(group, changes, several.dataset(tests=3))


def train_pairs(group: Group, changes: dict[str, Any]) -> dict[str, Any]:
    """Train a trial on pairs."""
    return train_on(group, changes, pairs_dataset())


def pairs_dataset() -> Dataset:
    """Return pairs of random images whose brightness tells their digit."""
    generator = torch.Generator().manual_seed(9)
    digits = torch.randint(0, 10, (110, 2), generator=generator)
    images = torch.rand(110, 2, 14, 14, generator=generator) * 60 + digits[:, :, None, None] * 15
    targets = torch.cat([(digits[:, :1] <= digits[:, 1:]).long(), digits], 1)
    return Dataset(
        images=images[:80],
        labels=targets[:80, 0],
        test_images=images[80:],
        test_labels=targets[80:, 0],
        classes=("greater", "less or equal"),
        fingerprint="f" * 32,
        several_targets=(targets[:80], targets[80:]),
    )


def train_on(
    group: Group, changes: dict[str, Any], dataset: Dataset, weights: Path = Path("nowhere")
) -> dict[str, Any]:
    """Train a trial on `dataset` to its end, and test it."""
    one = trials.trial(**changes)
    data = trials.data_of(one, dataset)
    state = begin(one, data, group, weights=weights)
    recorder = Recorder(state)
    rows = [loop.first_row(state, data)]
    while state.epoch < one.epochs and not stop(rows, one):
        rows.append(loop.train_epoch(state, data, recorder) or {})
    evaluation, probabilities = loop.test(state, data)
    return {
        "losses": recorder.losses,
        "rows": trials.untimed(rows),
        "test": evaluation.metrics("test"),
        "probabilities": probabilities.tolist(),
        "weights": digest(list(state.model.state_dict().values())),
        "optimizer": digest([*state.parameters.values]),
        "names": list(state.model.state_dict()),
    }


def passes(group: Group, changes: dict[str, Any]) -> list[list[Any]]:
    """Return, of each pass of an epoch, the examples of this rank and whether gradients were added up behind it."""
    one = trials.trial(**changes)
    data = trials.data_of(one)
    state = begin(one, data, group)
    found: list[list[Any]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        joins = getattr(state.network, "require_backward_grad_sync", True)
        found.append([len(inputs[0]), state.presence.counts, joins])

    state.model.register_forward_pre_hook(note)
    state.model.train()
    for indices in data.training.split(one.settings["training"]["batch_size"]):
        loop.train_step(state, data, indices)
    return found


def gradients(group: Group, changes: dict[str, Any], count: int) -> list[float]:
    """Return the gradient of one step on the first `count` examples."""
    one = trials.trial(**changes)
    data = trials.data_of(one)
    state = begin(one, data, group)
    loop.train_step(state, data, data.training[:count])
    (values,) = state.parameters.values
    return list(gradient(values).tolist())


def draw(group: Group) -> list[list[float]]:
    """Return what a network would draw from each generator in an epoch."""
    one = trials.trial()
    data = trials.data_of(one)
    start_epoch(begin(one, data, group), data.device)
    return [torch.rand(3).tolist(), np.random.random(3).tolist(), [random.random()]]


class After:
    """An interruption after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def resume(group: Group, changes: dict[str, Any], steps: list[int], folder: str) -> list[Any]:
    """Train a trial through, and again with an interruption after so many steps; return rows and weights of each."""
    one = trials.trial(**changes)
    found = [_trained(one, begin(one, trials.data_of(one), group), [])]
    for count in steps:
        save_after(group, changes, count, f"{folder}/{count}")
        found.append(load_and_train(group, changes, f"{folder}/{count}"))
    return found


def save_after(group: Group, changes: dict[str, Any], steps: int, folder: str) -> str:
    """Train for so many steps, then save; 0: save between the first two epochs."""
    one = trials.trial(**changes)
    data = trials.data_of(one)
    state = begin(one, data, group)
    rows = [loop.first_row(state, data)]
    if steps:
        assert not trials.train(state, data, rows, After(steps))
    else:
        rows.append(loop.train_epoch(state, data, trials.never) or {})
    return checkpoint.save(Path(folder), "w", state, rows, fingerprint="f").name


def load_and_train(group: Group, changes: dict[str, Any], folder: str) -> list[Any]:
    """Go on from the checkpoint, as another process would: with generators in any state."""
    torch.manual_seed(group.rank + 10)
    np.random.seed(group.rank + 10)
    random.seed(group.rank + 10)
    one = trials.trial(**changes)
    found = checkpoint.load_newest(Path(folder), one.key, fingerprint="f", group=group).checkpoint
    assert found is not None
    return _trained(one, checkpoint.restore(found, one, trials.data_of(one), group), list(found.rows))


def _trained(one: Trial, state: TrainingState, rows: list[dict[str, Any]]) -> list[Any]:
    assert trials.train(state, trials.data_of(one), rows)
    return [trials.untimed(rows), digest(list(state.model.state_dict().values()))]


# ---------------------------------------------------------------------------------------------- whole trials


def home(group: Group, folder: str, **changes: Any) -> Place:
    """Return a place of which all ranks but the first write nothing."""
    launch = Launch(name="l", scan="s", metric="val_accuracy", code=".", data_root=".", checkpoint_minutes=0.0)
    fields = ("checkpoint_epochs", "data_root")
    launch = replace(launch, **{name: changes.pop(name) for name in fields if name in changes})
    place = Place(ScanFolder(Path(folder)), launch, "cpu", f"w{group.rank}", lambda: False, group)
    return replace(place, **changes)


def made(changes: dict[str, Any]) -> Trial:
    """Return a trial on the digits, with the kind it says."""
    given = {"data": {"name": "digits"}, **changes}
    kind = Kind(given.pop("kind", "trial"))
    return trials.trial(kind=kind, fold=0 if kind is Kind.RETRAINING else 1, **given)


def network_trial(group: Group, changes: dict[str, Any], folder: str) -> dict[str, Any]:
    """Train a trial in a scan folder, as a worker does."""
    training = NetworkTraining.open(made(changes), home(group, folder, checkpoint_epochs=1))
    rows = trials.untimed([row for row in training.epochs() if row is not None])
    more = training.finish()
    more.pop("metrics", None)  # the last row again, with its times
    group.agree(True)  # rank 0 has written
    files = sorted(path.name for path in (Path(folder) / "checkpoints").glob("*"))
    group.agree(True)  # all have looked
    training.remove_checkpoints()
    weights = digest(list(training.state.model.state_dict().values()))
    return {"rows": rows, "more": more, "files": files, "weights": weights}


def interrupted_trial(group: Group, changes: dict[str, Any], folder: str, steps: int, rank: int) -> list[Any]:
    """Train a trial whose allocation ends for one rank after so many steps; then again, to its end."""
    allocation = Allocation()
    training = NetworkTraining.open(made(changes), home(group, folder, allocation=allocation))
    passes_left = After(steps)

    def signal(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and passes_left() and group.rank == rank:
            allocation.end(Reason.TIME_LIMIT)

    training.state.model.register_forward_pre_hook(signal)
    try:
        list(training.epochs())
        raise AssertionError("nothing ended it")
    except AllocationEndedError as error:
        stopped = [training.state.steps, error.reason.value]
    group.agree(True)
    return [stopped, network_trial(group, changes, folder)]


def refused(group: Group, what: str, folder: str) -> None:
    """Train where something is wrong for one rank alone."""
    place = home(group, folder)
    one = made({})
    if what == "taken over":
        place = replace(place, closed=lambda: group.rank == 0)
    if what == "no disk" and group.rank == 0:
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / "checkpoints").write_text("a file in the way")
    if what == "other data":
        data = network._trial_data(one, place)
        other = replace(data, dataset=replace(data.dataset, fingerprint=f"of rank {group.rank}"))
        return network._check_alike(other, place)
    training = NetworkTraining.open(made({"model": named(own_normalization)} if what == "own" else {}), place)
    return training._save()


def mnist(group: Group, changes: dict[str, Any], root: str, cache: str) -> dict[str, Any]:
    """Retrain on MNIST for an epoch, and test."""
    dataset = load({"name": "mnist"}, root=Path(root), cache=Path(cache), seed=0)
    one = trials.trial(kind=Kind.RETRAINING, fold=0, **changes)
    data = TrialData.of(dataset, one, "cpu")
    state = begin(one, data, group)
    recorder = Recorder(state)
    loop.train_epoch(state, data, recorder)
    evaluation, _ = loop.test(state, data)
    return {"losses": recorder.losses, **evaluation.metrics("test")}


def step_values(group: Group, changes: dict[str, Any]) -> list[dict[str, list[float]]]:
    """Train a trial to its end and return what was recorded of its steps."""
    one = trials.trial(**changes)
    state = begin(one, trials.data_of(one), group)
    return _recorded(one, state, [])


def step_values_from(group: Group, changes: dict[str, Any], folder: str) -> list[dict[str, list[float]]]:
    """Go on from the checkpoint, and return what was recorded of all steps, those before it too."""
    one = trials.trial(**changes)
    found = checkpoint.load_newest(Path(folder), one.key, fingerprint="f", group=group).checkpoint
    assert found is not None
    return _recorded(one, checkpoint.restore(found, one, trials.data_of(one), group), list(found.rows))


def _recorded(one: Trial, state: TrainingState, rows: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
    assert trials.train(state, trials.data_of(one), rows)
    assert state.step_values is not None
    return [state.step_values.of_epoch(epoch + 1) for epoch in range(state.epoch)]


def refused_weights(group: Group, changes: dict[str, Any], folder: str) -> str:
    """Train where weights cannot be kept; return what each rank is told."""
    Path(folder).mkdir(exist_ok=True)
    (Path(folder) / "kept").touch()  # a file in the way
    try:
        network_trial(group, changes, folder)
    except StoreError as error:
        return str(error)
    raise AssertionError("nothing was refused")
