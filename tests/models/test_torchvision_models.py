import hashlib
import http.client
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save, save_file
from torch import nn

from nnscan.errors import DataError, ScanError
from nnscan.models.build import build
from nnscan.models.torchvision_models import largest_of_ranges, torchvision_model

torch.set_num_threads(1)


def settings(name: str, **changes: object) -> dict[str, object]:
    return {"name": f"torchvision:{name}", "weights": "none", "input_size": 0, **changes}


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torch looks for weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_head_fits_the_classes_and_the_input_the_channels(name: str, channels: int) -> None:
    model = build(settings(name, input_size=64), (channels, 20, 20), 7).eval()
    assert model(torch.rand(2, channels, 20, 20)).shape == (2, 7)


def test_grey_images_are_repeated_to_three_channels() -> None:
    model = build(settings("resnet18"), (1, 32, 32), 4).eval()
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model(images), model.network(torch.cat([images] * 3, dim=1)))


def test_images_are_resized_in_front_of_the_network() -> None:
    model = build(settings("resnet18", input_size=48), (3, 32, 32), 4).eval()
    images = torch.rand(2, 3, 32, 32)
    resized = nn.functional.interpolate(images, size=(48, 48), mode="bilinear", antialias=True)
    torch.testing.assert_close(model(images), model.network(resized))


def test_a_network_with_extra_outputs_gives_the_main_one() -> None:
    model = build(settings("googlenet", input_size=64), (3, 32, 32), 4)
    assert model.train()(torch.rand(2, 3, 32, 32)).shape == (2, 4)


def test_a_size_that_the_network_refuses_is_told_with_the_way_out() -> None:
    with pytest.raises(AssertionError) as caught:
        build(settings("vit_b_32"), (3, 32, 32), 4)
    assert "Set model.input_size" in caught.value.__notes__[0]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_a_file_are_all_taken_but_the_head(suffix: str, weights_folder: Path) -> None:
    torch.manual_seed(3)
    trained = torchvision.models.resnet18()
    file = weights_folder / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(trained.state_dict(), file)
    else:
        save_file(trained.state_dict(), file)
    (weights_folder / "another").write_text("no weights")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model = torchvision_model("resnet18", (3, 32, 32), 4, weights=f"sha256:{digest}", input_size=0)
    own = model.network.state_dict()
    assert all(
        torch.equal(own[name], value) for name, value in trained.state_dict().items() if not name.startswith("fc")
    )
    assert own["fc.weight"].shape == (4, 512)


def test_weights_of_another_network_are_refused(weights_folder: Path) -> None:
    torch.save(torchvision.models.resnet34().state_dict(), weights_folder / "resnet34.pth")
    digest = hashlib.sha256((weights_folder / "resnet34.pth").read_bytes()).hexdigest()
    with pytest.raises(ScanError, match=r"model\.weights: .*of another network"):
        torchvision_model("squeezenet1_1", (3, 32, 32), 4, weights=f"sha256:{digest}", input_size=0)


def test_a_file_that_no_folder_has_is_told(weights_folder: Path) -> None:
    with pytest.raises(DataError, match=f"None of the 0 files in {weights_folder}"):
        torchvision_model("resnet18", (3, 32, 32), 4, weights="sha256:" + "0" * 64, input_size=0)


def test_unknown_names_of_weights_are_told_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="It has: IMAGENET1K_V1; or 'none'"):
        torchvision_model("resnet18", (3, 32, 32), 4, weights="IMAGENET1K_V9", input_size=0)


@pytest.mark.parametrize("error", [OSError("no route to host"), http.client.RemoteDisconnected("bye")], ids=repr)
def test_weights_that_cannot_be_had_offline_say_where_to_put_them(
    error: Exception, weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object, **keywords: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth"):
        torchvision_model("resnet18", (3, 32, 32), 4, weights="IMAGENET1K_V1", input_size=0)


def test_named_weights_are_read_from_torchs_folder(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = torchvision.models.resnet18()
    torch.save(trained.state_dict(), weights_folder / "resnet18-f37072fd.pth")
    model = torchvision_model("resnet18", (3, 32, 32), 4, weights="IMAGENET1K_V1", input_size=0)
    torch.testing.assert_close(model.network.conv1.weight, trained.conv1.weight)


def test_weights_from_before_batch_normalisation_counted_are_taken(tmp_path: Path) -> None:
    # As torchvision's own resnet18-f37072fd.pth is: names without num_batches_tracked.
    trained = torchvision.models.resnet18().state_dict()
    content = save({name: value for name, value in trained.items() if not name.endswith("num_batches_tracked")})
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / digest).write_bytes(content)
    model = torchvision_model("resnet18", (3, 32, 32), 4, tmp_path, weights=f"sha256:{digest}", input_size=0)
    torch.testing.assert_close(model.network.bn1.weight, trained["bn1.weight"])


def test_weights_of_a_model_folder_are_taken_too(tmp_path: Path) -> None:
    trained = build(settings("resnet18"), (3, 32, 32), 10, seed=5)  # names begin with "network."
    content = save(trained.state_dict())
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / digest).write_bytes(content)
    model = build(settings("resnet18", weights=f"sha256:{digest}"), (3, 32, 32), 4, seed=6, weights=tmp_path)
    assert torch.equal(model.network.layer4[1].conv2.weight, trained.network.layer4[1].conv2.weight)
    assert model.network.fc.weight.shape == (4, 512)


@pytest.mark.parametrize("shape", [(2, 32, 32), (64,)])
def test_data_that_are_no_grey_or_rgb_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="1 or 3 channels"):
        torchvision_model("resnet18", shape, 4, weights="none", input_size=0)


# ---------------------------------------------------------------------------------------------- ranges of labels


ANY_ANIMAL = [[0, 397], [398, 999]]
ONLY_DOGS = [[151, 268], [0, 150, 269, 999]]


@pytest.mark.parametrize("ranges", [ANY_ANIMAL, ONLY_DOGS], ids=["any animal", "only dogs"])
def test_the_class_is_the_one_that_has_the_networks_first_choice(ranges: list[list[int]]) -> None:
    outputs = torch.randn(500, 1000, generator=torch.Generator().manual_seed(0))
    first, last = ranges[0]
    choice = outputs.argmax(1)
    expected = torch.where((choice >= first) & (choice <= last), 0, 1)
    found = largest_of_ranges(outputs, ranges)
    assert found.shape == (500, 2)
    assert torch.equal(found.argmax(1), expected)
    assert torch.equal(found.amax(1), outputs.amax(1))
    assert 0 < expected.float().mean() < 1


def test_a_network_with_ranges_keeps_its_own_head_and_its_weights(tmp_path: Path) -> None:
    trained = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None).eval()
    content = save(trained.state_dict())
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / digest).write_bytes(content)
    options = settings("shufflenet_v2_x0_5", weights=f"sha256:{digest}", class_ranges=ONLY_DOGS)
    model = build(options, (3, 32, 32), 2, weights=tmp_path).eval()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    outputs = trained(images)
    dogs = outputs[:, 151:269].amax(1)
    others = torch.cat([outputs[:, :151], outputs[:, 269:]], 1).amax(1)
    torch.testing.assert_close(model(images), torch.stack([dogs, others], 1))


def test_weights_for_other_labels_than_imagenets_have_no_ranges_of_them(tmp_path: Path) -> None:
    content = save(torchvision.models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=10).state_dict())
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / digest).write_bytes(content)
    options = settings("shufflenet_v2_x0_5", weights=f"sha256:{digest}", class_ranges=ONLY_DOGS)
    with pytest.raises(ScanError, match=r"lack 'fc\.weight'"):
        build(options, (3, 32, 32), 2, weights=tmp_path)


def test_ranges_for_other_classes_than_there_are_are_refused() -> None:
    with pytest.raises(ScanError, match=r"model\.class_ranges: found ranges of 2 classes; the data have 3"):
        build(settings("shufflenet_v2_x0_5", class_ranges=ANY_ANIMAL), (3, 32, 32), 3)
