"""Normalisation: exact, per channel, from the training part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional
from torchvision.transforms._presets import ImageClassification

from nnscan.data import normalization
from nnscan.data.normalization import Normalization
from nnscan.data.packing import pack, unpack
from nnscan.errors import DataError


def applied(made: Normalization, images: torch.Tensor) -> torch.Tensor:
    scale, shift = made.tensors(images.dim())
    return images.float() * scale + shift


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(2, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    chunk=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_images_get_the_exact_moments_of_the_training_part(shape: tuple[int, ...], chunk: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, shape, dtype=np.uint8)
    part = np.sort(random.choice(shape[0], shape[0] - 1, replace=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalization, "CHUNK_EXAMPLES", chunk)
        made = normalization.of("standard", torch.from_numpy(images), torch.from_numpy(part))
    deviation = images[part].astype(float).std(axis=(0, 2, 3))
    deviation[deviation == 0] = 255
    np.testing.assert_allclose(made.scale, 1 / deviation, rtol=1e-12)
    np.testing.assert_allclose(made.shift, -images[part].mean(axis=(0, 2, 3)) / deviation, rtol=1e-12)


def test_normalised_images_have_mean_0_and_deviation_1() -> None:
    images = torch.randint(0, 200, (50, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = applied(normalization.of("standard", images, torch.arange(50)), images)
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-5
    assert (inputs.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_a_channel_that_never_varies_becomes_zero() -> None:
    images = torch.full((4, 2, 3, 3), 7, dtype=torch.uint8)
    images[:, 1] = torch.arange(9, dtype=torch.uint8).view(3, 3)
    inputs = applied(normalization.of("standard", images, torch.arange(4)), images)
    assert inputs[:, 0].abs().max() < 1e-7
    assert torch.isfinite(inputs).all()


def test_none_gives_images_as_fractions_of_white() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    inputs = applied(normalization.of("none", images, torch.arange(1)), images)
    assert torch.allclose(inputs, images / 255, rtol=1e-6, atol=0)


def test_none_leaves_features_alone() -> None:
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(applied(normalization.of("none", features, torch.arange(5)), features), features)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_imagenet_is_what_torchvisions_weights_were_trained_with(dtype: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = pixels if dtype == torch.uint8 else pixels / 255
    preset = ImageClassification(crop_size=5, resize_size=[5, 4])  # cuts nothing off, resizes nothing
    expected = functional.normalize(pixels / 255, preset.mean, preset.std)
    found = applied(normalization.of("imagenet", images, torch.arange(2)), images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_imagenets_three_channels_are_not_those_of_grey_images() -> None:
    with pytest.raises(DataError, match=r"three channels; the data have 1.*color"):
        normalization.of("imagenet", torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.arange(2))


@pytest.mark.parametrize("shape", [(40, 3), (40, 3, 5), (40, 3, 2, 2)], ids=str)
def test_features_are_normalised_per_channel(shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1e4
    axes = (0, *range(2, len(shape)))
    made = normalization.of("standard", features, torch.arange(40))
    wide = features.double().numpy()
    np.testing.assert_allclose(made.scale, 1 / wide.std(axis=axes), rtol=1e-9)
    np.testing.assert_allclose(made.shift, -wide.mean(axis=axes) / wide.std(axis=axes), rtol=1e-9)


def test_a_constant_feature_becomes_zero() -> None:
    features = torch.full((30, 1), 0.1)
    made = normalization.of("standard", features, torch.arange(30))
    assert made.scale == (1.0,)
    assert applied(made, features).abs().max() < 1e-7


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_global_is_one_mean_and_deviation_of_everything(dtype: torch.dtype) -> None:
    images = torch.randint(0, 90, (40, 3, 5, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    images[:, 1] += 100
    part = torch.arange(0, 40, 3)
    made = normalization.of("global", images, part)
    wide = images[part].double().numpy()
    np.testing.assert_allclose(made.scale, [1 / wide.std()] * 3, rtol=1e-12)
    np.testing.assert_allclose(made.shift, [-wide.mean() / wide.std()] * 3, rtol=1e-12)


@pytest.mark.parametrize("name", ["standard", "global", "none"])
def test_packed_inputs_are_normalised_as_each_would_be_alone(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(30, 2, 3, 3, generator=generator) * 5, torch.randn(30, 4, generator=generator) - 9]
    shapes, part = ((2, 3, 3), (4,)), torch.arange(20)
    packed = pack(inputs)
    together = applied(normalization.of(name, packed, part, shapes), packed)
    for found, alone in zip(unpack(together, shapes), inputs, strict=True):
        assert torch.equal(found, applied(normalization.of(name, alone, part), alone))


def test_it_survives_json() -> None:
    made = Normalization((0.1, 1 / 3), (-1e-9, 2.0))
    assert Normalization.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_mnist_has_its_published_mean_and_deviation(data_root: Path, tmp_path: Path) -> None:
    """0.1307 and 0.3081 of pixels as fractions of white."""
    from nnscan.data import dataset

    mnist = dataset.load({"name": "mnist"}, root=data_root, cache=tmp_path, seed=0)
    made = normalization.of("standard", mnist.images, torch.arange(60_000))
    assert 1 / made.scale[0] / 255 == pytest.approx(0.3081, abs=5e-5)
    assert -made.shift[0] / made.scale[0] / 255 == pytest.approx(0.1307, abs=5e-5)
