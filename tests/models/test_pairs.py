"""Networks that compare two images: as an independent plain implementation computes them, of the published sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnscan.models.build import count_parameters
from nnscan.models.pairs import pair, siamese

torch.set_num_threads(1)

SHAPE = (2, 14, 14)


def sized(first: int, second: int, hidden: int, batch_norm: bool, skip: bool) -> dict[str, Any]:
    return {
        "first_channels": first,
        "second_channels": second,
        "hidden_units": hidden,
        "batch_norm": batch_norm,
        "skip": skip,
    }


@pytest.mark.parametrize(
    ("options", "of_pair", "of_siamese"),
    [
        (sized(64, 64, 64, True, False), 153_410, 153_396),
        (sized(32, 8, 128, True, False), None, 12_364),
        (sized(32, 64, 256, True, True), 570_146, 333_620),
        (sized(8, 8, 64, False, False), 3_170, 3_660),
        (sized(64, 64, 512, True, True), 1_115_000, 654_000),
    ],
    ids=["best", "best siamese", "defaults", "smallest", "largest"],
)
def test_it_has_as_many_parameters_as_published(options: dict[str, Any], of_pair: int | None, of_siamese: int) -> None:
    rounded = 500 if options["hidden_units"] == 512 else 0  # of the largest, three digits were told
    if of_pair:
        assert count_parameters(pair(SHAPE, 2, **options)) == pytest.approx(of_pair, abs=rounded)
    assert count_parameters(siamese(SHAPE, 2, **options)) == pytest.approx(of_siamese, abs=rounded)


def normalized(values: Tensor, module: nn.Module) -> Tensor:
    """Batch normalisation of a batch, written out."""
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return values
    axes = [0, 2, 3][: 1 if values.dim() == 2 else 3]
    mean = values.mean(axes, keepdim=True)
    variance = ((values - mean) ** 2).mean(axes, keepdim=True)
    shape = (1, -1, *[1] * (values.dim() - 2))
    return (values - mean) / (variance + 1e-5).sqrt() * module.weight.view(shape) + module.bias.view(shape)


def plain_backbone(net: Any, images: Tensor) -> Tensor:
    """The backbone as its description has it, from functions alone."""
    features = functional.conv2d(images, net.first.convolution.weight, net.first.convolution.bias)  # 12x12
    features = functional.max_pool2d(features, 2).clamp(min=0)  # 6x6
    features = normalized(features, net.first.normalization)
    flat = images.reshape(len(images), -1)
    if net.first.shortcut is not None:
        added = (flat @ net.first.shortcut.weight.T + net.first.shortcut.bias).clamp(min=0)
        features = features + added.reshape(features.shape)
    features = torch.einsum("nchw,ochw->no", features, net.second.convolution.weight) + net.second.convolution.bias
    features = normalized(features.clamp(min=0)[:, :, None, None], net.second.normalization)[:, :, 0, 0]
    if net.second.shortcut is not None:
        features = features + (flat @ net.second.shortcut.weight.T + net.second.shortcut.bias).clamp(min=0)
    features = (features @ net.dense.weight.T + net.dense.bias).clamp(min=0)
    return normalized(features, net.normalization)


VARIANTS = [(batch_norm, skip) for batch_norm in (True, False) for skip in (True, False)]


@pytest.mark.parametrize(("batch_norm", "skip"), VARIANTS, ids=str)
def test_pair_is_its_description(batch_norm: bool, skip: bool) -> None:
    torch.manual_seed(0)
    network = pair(SHAPE, 2, **sized(5, 6, 7, batch_norm, skip)).double()
    pairs = torch.randn(9, *SHAPE, dtype=torch.float64)
    expected = plain_backbone(network[0], pairs) @ network[1].weight.T + network[1].bias
    torch.testing.assert_close(network(pairs), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("batch_norm", "skip"), VARIANTS, ids=str)
def test_siamese_is_its_description(batch_norm: bool, skip: bool) -> None:
    torch.manual_seed(0)
    network = siamese(SHAPE, 2, **sized(5, 6, 7, batch_norm, skip)).double()
    pairs = torch.randn(9, *SHAPE, dtype=torch.float64)
    read = plain_backbone(network.backbone, torch.cat([pairs[:, :1], pairs[:, 1:]]))  # statistics of all 18 images
    digits = read @ network.digits.weight.T + network.digits.bias
    found = network(pairs)
    torch.testing.assert_close(found["first"], digits[:9], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found["second"], digits[9:], rtol=1e-10, atol=1e-12)
    both = torch.cat([digits[:9], digits[9:]], 1).clamp(min=0)
    torch.testing.assert_close(found["head"], both @ network.head.weight.T + network.head.bias, rtol=1e-10, atol=1e-12)


def test_both_digits_are_read_with_the_same_weights() -> None:
    network = siamese(SHAPE, 2, **sized(4, 4, 8, True, True)).eval()
    pairs = torch.randn(5, *SHAPE)
    one, swapped = network(pairs), network(pairs.flip(1))
    torch.testing.assert_close(one["first"], swapped["second"])
    torch.testing.assert_close(one["second"], swapped["first"])


@pytest.mark.parametrize("network", [pair, siamese])
def test_no_output_is_cut_off_at_zero(network: Any) -> None:
    torch.manual_seed(0)
    outputs = network(SHAPE, 2, **sized(8, 8, 16, False, False))(torch.randn(200, *SHAPE))
    for values in outputs.values() if isinstance(outputs, dict) else [outputs]:
        assert (values < 0).any()
        assert not (values == 0).any()


@pytest.mark.parametrize("network", [pair, siamese])
@pytest.mark.parametrize("shape", [(1, 14, 14), (2, 14, 12), (2, 3, 3), (196,)], ids=str)
def test_what_are_no_pairs_is_told(network: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"two square grey images, \(2, H, H\)"):
        network(shape, 2, **sized(4, 4, 8, True, True))


def test_pairs_of_another_size_are_taken() -> None:
    assert pair((2, 28, 28), 2, **sized(4, 4, 8, True, True))(torch.zeros(3, 2, 28, 28)).shape == (3, 2)
    assert siamese((2, 9, 9), 2, **sized(4, 4, 8, True, True))(torch.zeros(3, 2, 9, 9))["head"].shape == (3, 2)
