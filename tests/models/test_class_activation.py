"""Class activation maps: against the closed form, against gradients by hand, and against each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnscan.errors import DataError
from nnscan.models.build import build
from nnscan.models.class_activation import class_activation

torch.set_num_threads(1)

FULLY = {"name": "fully_convolutional", "channels": [6, 8], "kernel_size": 3, "dropout": 0.2}
CNN: dict[str, Any] = {
    "name": "cnn",
    "channels": [4, 6],
    "kernel_size": 3,
    "batch_norm": True,
    "dropout": 0.3,
    "skip": False,
    "hidden_units": 8,
}
SIZE = (20, 16)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def fully(*, relu: bool = False) -> nn.Sequential:
    """A fully convolutional network whose batch normalisation has statistics; with ReLU before the averages or not."""
    torch.manual_seed(2)
    network = build(FULLY, (3, *SIZE), 4, seed=1)
    assert isinstance(network, nn.Sequential)
    network.train()(torch.randn(30, 3, *SIZE))
    *layers, maps, pooling, flatten = network
    return nn.Sequential(*layers, maps, *([nn.ReLU()] if relu else []), pooling, flatten)


def by_hand(maps: Tensor) -> Tensor:
    """Cut off, scale and resize one map after another."""
    made = []
    for one in maps.clamp(min=0):
        scaled = (one - one.min()) / (one.max() - one.min())
        made.append(
            nn.functional.interpolate(scaled[None, None], size=SIZE, mode="bilinear", align_corners=False)[0, 0]
        )
    return torch.stack(made)


@pytest.mark.parametrize("relu", [False, True], ids=["means", "means of ReLU"])
def test_the_map_is_that_whose_mean_is_the_output(relu: bool, images: Tensor) -> None:
    network = fully(relu=relu).eval()
    with torch.no_grad():
        outputs = network(images)
        maps = network[: -3 if relu else -2](images)
        torch.testing.assert_close((maps.relu() if relu else maps).mean((2, 3)), outputs)
        for classes in (torch.tensor([0, 1, 2, 3, 0]), outputs.argmax(1)):
            expected = by_hand(maps[torch.arange(5), classes])
            torch.testing.assert_close(class_activation(network, images, classes), expected)
            torch.testing.assert_close(class_activation(network, images, classes, method="cam"), expected)
    torch.testing.assert_close(class_activation(network, images), expected)


def test_grad_cam_of_a_network_with_maps_is_the_same_map_but_for_its_factor(images: Tensor) -> None:
    network = fully()
    cam, grad_cam = (class_activation(network, images, method=method) for method in ("cam", "grad-cam"))
    torch.testing.assert_close(cam, grad_cam)
    assert cam.std() > 0.1


def gradients_by_hand(network: nn.Module, layer: nn.Module, image: Tensor, label: int) -> Tensor:
    """Return Grad-CAM's sum for one image, by the gradient of the network behind `layer` in what that gives."""
    found: list[Tensor] = []
    seen = layer.register_forward_hook(lambda module, inputs, output: found.append(output.detach()))
    network(image[None])
    seen.remove()
    features = found[0].clone().requires_grad_()
    replaced = layer.register_forward_hook(lambda module, inputs, output: features.clone())
    network(image[None])[0, label].backward()
    replaced.remove()
    assert features.grad is not None
    weights = features.grad[0].mean((1, 2))
    return sum(
        (weight * channel for weight, channel in zip(weights, features[0].detach(), strict=True)), torch.zeros(())
    )


@pytest.mark.parametrize("method", ["", "grad-cam"])
@pytest.mark.parametrize("skip", [False, True])
def test_grad_cam_weighs_channels_by_their_gradients(skip: bool, method: str, images: Tensor) -> None:
    network = build({**CNN, "skip": skip}, (3, *SIZE), 4, seed=3).eval()
    classes = torch.tensor([0, 1, 2, 3, 0])
    expected = [
        gradients_by_hand(network, network[1].convolution, one, label)
        for one, label in zip(images, [0, 1, 2, 3, 0], strict=True)
    ]  # type: ignore[index]
    torch.testing.assert_close(
        class_activation(network, images, classes, method=method), by_hand(torch.stack(expected))
    )


class InPlace(nn.Module):
    """Writes into what its convolution gives, as torchvision's VGG and SqueezeNet do."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.head = nn.Linear(5, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(nn.functional.relu(self.convolution(images), inplace=True).mean((2, 3)))


def test_a_layer_that_writes_into_its_input_changes_nothing(images: Tensor) -> None:
    torch.manual_seed(0)
    network = InPlace()
    maps = network.convolution(images).detach()
    label = network(images).argmax(1)
    share = (maps > 0).float().mean((2, 3))  # the gradient of a mean of ReLU is 1 / (h w) where it is positive
    weights = network.head.weight.detach()[label] * share
    expected = by_hand((weights[:, :, None, None] * maps).sum(1))
    torch.testing.assert_close(class_activation(network, images), expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_torchvisions_is_mapped_at_its_last_convolution(images: Tensor) -> None:
    settings = {"name": "torchvision:resnet18", "weights": "none", "input_size": 64}
    network = build(settings, (3, *SIZE), 4, seed=0).eval()
    label = int(network(images[:1]).argmax())
    expected = gradients_by_hand(network, network.network.layer4[1].conv2, images[0], label)  # type: ignore[union-attr]
    torch.testing.assert_close(class_activation(network, images[:1]), by_hand(expected[None]), rtol=1e-4, atol=1e-5)


def test_a_map_without_a_place_to_point_at_is_zero(images: Tensor) -> None:
    network = fully()
    with torch.no_grad():
        network[-3].weight.zero_()
        network[-3].bias.fill_(1.0)
    assert not class_activation(network, images, method="cam").any()


def test_the_network_and_the_images_are_left_as_they_were(images: Tensor) -> None:
    network = fully().train()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        seen = images.clone()
        maps = class_activation(network, seen, method="grad-cam")
    assert torch.equal(seen, images)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert not any(module._forward_hooks for module in network.modules())
    assert maps.shape == (5, *SIZE)
    assert not maps.requires_grad
    assert (maps.amin(), maps.amax()) >= (0, 0.5)


def test_a_network_without_convolutions_is_refused(images: Tensor) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 16, 4))
    with pytest.raises(DataError, match=r'no convolution.*"fully_convolutional"'):
        class_activation(network, images)


def test_maps_that_there_are_not_are_refused(images: Tensor) -> None:
    with pytest.raises(DataError, match="--method grad-cam"):
        class_activation(build(CNN, (3, *SIZE), 4), images, method="cam")


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means = self.convolution(images).mean((2, 3))
        return means, means


def test_a_network_of_several_outputs_is_refused(images: Tensor) -> None:
    with pytest.raises(DataError, match="no single output"):
        class_activation(TwoHeads(), images)
