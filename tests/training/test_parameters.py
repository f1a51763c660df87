import pytest
import torch
from torch import nn

from nnscan.training.parameters import ALIGNMENT_BYTES, flatten, prefers_channels_last

torch.set_num_threads(1)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 4))


def test_flatten_keeps_every_value_and_buffer() -> None:
    model, plain = network(), network()
    flatten(model)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


def test_parameters_and_gradients_are_views_of_the_flat_tensor() -> None:
    model = network()
    flat = flatten(model).values[0]
    assert flat.grad is not None
    flat.fill_(2.0)
    flat.grad.fill_(3.0)
    assert all((value == 2).all() and (value.grad == 3).all() for value in model.parameters())


def test_gradients_of_a_step_equal_those_of_the_plain_model() -> None:
    model, plain = network(), network()
    parameters = flatten(model)
    images = torch.randn(6, 3, 4, 4)
    for one in (model, plain):
        one(images).square().sum().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    parameters.zero_gradients()
    assert all(value.grad is not None and not value.grad.any() for value in model.parameters())


def test_convolution_weights_lie_channels_last_and_contiguous_in_the_flat_tensor() -> None:
    model = network()
    flatten(model)
    weight = model[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.stride() == weight.grad.stride()


def test_every_parameter_begins_at_a_cache_line() -> None:
    model = network()
    start = flatten(model).values[0].data_ptr()
    assert all((value.data_ptr() - start) % ALIGNMENT_BYTES == 0 for value in model.parameters())


def test_a_parameter_under_two_names_is_taken_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert flatten(model).values[0].numel() == 16
    assert model[0].weight is model[1].weight
    model(torch.ones(1, 4)).sum().backward()
    plain = model[0].weight.detach().clone().requires_grad_()
    (torch.ones(1, 4) @ plain.T @ plain.T).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, plain.grad)


def test_frozen_parameters_stay_where_they_are() -> None:
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.data_ptr()
    flat = flatten(model).values[0]
    assert model[0].weight.data_ptr() == before
    assert model[0].weight.grad is None
    assert flat.numel() < sum(value.numel() for value in model.parameters())


def test_each_type_has_a_flat_tensor_of_its_own() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).double(), nn.Linear(3, 3))
    assert [values.dtype for values in flatten(model).values] == [torch.float32, torch.float64]


def test_a_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        flatten(nn.Sequential(nn.Flatten()))


@pytest.mark.parametrize("largest", [0.01, 1e6])
def test_clip_bounds_the_norm_of_all_gradients_together(largest: float) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).double())
    parameters = flatten(model)
    for value in model.parameters():
        value.grad.normal_()
    before = torch.cat([value.grad.double().flatten() for value in model.parameters()])
    parameters.clip(largest)
    after = torch.cat([value.grad.double().flatten() for value in model.parameters()])
    assert after.norm().item() == pytest.approx(min(largest, before.norm().item()), rel=1e-3)
    torch.testing.assert_close(after / after.norm(), before / before.norm(), rtol=1e-5, atol=1e-6)


def test_only_networks_with_convolutions_of_images_prefer_channels_last() -> None:
    assert prefers_channels_last(network())
    assert not prefers_channels_last(nn.Sequential(nn.Conv1d(1, 1, 1), nn.Linear(1, 1)))
