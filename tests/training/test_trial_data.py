import torch
from trials import AUGMENTATION, data_of, dataset, trial

from nnscan.data.folds import split
from nnscan.training.trial_data import shared_by
from nnscan.trial import Kind

torch.set_num_threads(1)


def test_a_trial_has_the_parts_of_its_fold() -> None:
    one = trial(fold=2, replicate=1)
    data, whole = data_of(one), dataset()
    training, validation = split(whole.labels, one.settings["validation"], seed=5, replicate=1, fold=2)
    assert torch.equal(data.training, training)
    assert torch.equal(data.validation, validation)
    assert (data.input_shape, data.classes) == ((1, 8, 8), 3)


def test_a_retraining_has_everything_and_nothing_validates() -> None:
    data = data_of(trial(kind=Kind.RETRAINING))
    assert data.training.tolist() == list(range(120))
    assert len(data.validation) == 0


def test_inputs_are_normalised_by_the_training_part() -> None:
    data = data_of(trial())
    inputs, labels = data.batch(data.training, data.buffers(len(data.training), channels_last=False))
    assert abs(inputs.mean().item()) < 1e-5
    assert abs(inputs.std().item() - 1) < 1e-3
    assert torch.equal(labels, dataset().labels[data.training])


def test_every_validating_and_test_example_comes_once() -> None:
    data, whole = data_of(trial()), dataset()
    buffers = data.buffers(7, channels_last=False)
    assert torch.equal(
        torch.cat([labels for _, labels in data.validation_batches(buffers)]), data.labels[data.validation]
    )
    assert torch.equal(torch.cat([labels for _, labels in data.test_batches(buffers)]), whole.test_labels)
    tested = torch.cat([inputs.clone() for inputs, _ in data.test_batches(buffers)])
    scale, shift = data.normalization.scale[0], data.normalization.shift[0]
    torch.testing.assert_close(tested, whole.test_images.float() * scale + shift)


def test_augmentations_are_drawn_only_where_they_are_on() -> None:
    generator = torch.Generator()
    assert data_of(trial()).draws(4, generator) is None
    assert len(data_of(trial(data={"augmentation": AUGMENTATION})).draws(4, generator) or []) == 4


def test_trials_that_differ_in_model_or_optimizer_share_data_and_those_of_other_folds_do_not() -> None:
    one = shared_by(trial())
    assert one == shared_by(trial(model={"name": "cnn"}, training={"batch_size": 3}))
    assert one != shared_by(trial(fold=2))
    assert one != shared_by(trial(kind=Kind.RETRAINING))
    assert one != shared_by(trial(training={"seed": 6}))
