"""What a user's function may return, and what is told where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnscan.data.user_function import check, offers
from nnscan.errors import DataError
from nnscan.identity import Purpose, seed32

X = np.zeros((4, 3))
Y = np.array([0, 1, 0, 1])


def checked(**changes: Any) -> Any:
    return check("own:data", {"train": (X, Y), **changes})


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, np.int32, np.int64, bool], ids=lambda t: t.__name__
)
def test_features_become_float32(dtype: type) -> None:
    values = np.arange(12).reshape(4, 3).astype(dtype)
    inputs, labels = checked(train=(values, Y.astype(np.int8))).train
    assert inputs.dtype == torch.float32
    assert inputs.tolist() == values.astype(np.float32).tolist()
    assert labels.dtype == torch.int64


def test_images_stay_bytes() -> None:
    images = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8)
    assert torch.equal(checked(train=[images, torch.tensor(Y)]).train[0], images)


def test_classes_are_named_or_numbered() -> None:
    assert checked().classes == ("0", "1")
    assert checked(test=(X, [0, 2, 0, 0])).classes == ("0", "1", "2")
    assert checked(classes=["a", "b", "c"]).classes == ("a", "b", "c")


HALVES = np.stack([Y, Y + 0.5], axis=1)
TWO = np.stack([Y, Y + 5], axis=1)
NAN = np.where(np.eye(4, 3) == 1, np.nan, 1.0)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, 'returned NoneType. It has to return {"train": (x, y)}'),
        ({"test": (X, Y)}, "a dict with ['test']"),
        ({"train": (X, Y), "tset": (X, Y)}, "['train', 'tset']"),
        ({"train": X}, "'train' ndarray; it has to be a pair"),
        ({"train": (X, Y, Y)}, "'train' tuple; it has to be a pair"),
        ({"train": (X, Y[:3])}, "4 inputs and 3 labels"),
        ({"train": (X[:0], Y[:0])}, "0 inputs and 0 labels"),
        ({"train": (["a", "b"], Y)}, "train x is no array of numbers"),
        ({"train": (X * 1j, Y)}, "complex128 of shape (4, 3); an array of real numbers"),
        ({"train": (X[:, 0], Y)}, "float64 of shape (4,); one row an example"),
        ({"train": (X, Y.astype(float))}, "train y is float64 of shape (4,); labels are whole numbers"),
        ({"train": (X, X[:, :, None])}, "labels are whole numbers of shape (N,)"),
        ({"train": (X, X[:, :0])}, "Several targets an example are numbers of shape (N, T), the first"),
        ({"train": (X, X + 0.5)}, "fractions, NaN or infinity in its first column, which is that of the labels"),
        ({"train": (X, NAN)}, "infinity in its first column"),
        ({"train": (X, np.full_like(X, np.inf))}, "infinity in its first column"),
        ({"train": (X, X - 1)}, "holds -1; labels count from 0"),
        ({"train": (X, X)}, "labels of one class alone"),
        ({"train": (X, TWO), "test": (X, Y)}, "as test y int64 of shape (4,), but as training y int64 of shape (4, 2)"),
        ({"train": ((X, X[:3]), Y)}, "3 inputs and 4 labels"),
        ({"train": ((X, NAN), Y)}, "train x[1] holds NaN"),
        ({"train": ((X, X), Y), "test": (X, Y)}, "test inputs of float32 of shape (4, 3), but"),
        ({"train": (X, Y - 1)}, "holds -1; labels count from 0"),
        ({"train": (X, Y * 0)}, "labels of one class alone"),
        ({"train": (NAN, Y)}, "NaN or infinity in 3 of 4 examples, first in number 0"),
        ({"train": (X.astype(np.uint8), Y)}, "uint8 means images, (N, C, H, W)"),
        ({"train": (np.zeros((4, 9, 9, 3), np.uint8), Y)}, "channels last. Return x.transpose(0, 3, 1, 2)"),
        ({"train": (X, Y), "test": (X[:, :2], Y)}, "test inputs of float32 of shape (4, 2)"),
        ({"train": (X, Y), "test": (X, Y + 1), "classes": ["a", "b"]}, "2 classes, but labels up to 2. Name 3"),
        ({"train": (3, Y)}, "int64 of shape (); an array"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_data_is_told(returned: Any, told: str) -> None:
    with pytest.raises(DataError) as error:
        check("own:data", returned)
    assert str(error.value).startswith("own:data")
    assert told in str(error.value)


@pytest.mark.parametrize(("values", "dtype"), [(TWO, torch.int64), (HALVES, torch.float32)], ids=["whole", "floats"])
def test_several_targets_keep_their_kind(values: np.ndarray, dtype: torch.dtype) -> None:
    found = checked(train=(X, values))
    assert found.train[1].dtype == dtype
    assert found.train[1].tolist() == values.tolist()
    assert found.classes == ("0", "1")  # of the first column


def test_several_inputs_are_packed_side_by_side() -> None:
    images = np.arange(4 * 12, dtype=np.uint8).reshape(4, 3, 2, 2)
    found = checked(train=((X + 7, images), Y))
    assert found.input_shapes == ((3,), (3, 2, 2))
    assert found.train[0].dtype == torch.float32
    assert torch.equal(found.train[0][:, :3], torch.full((4, 3), 7.0))
    torch.testing.assert_close(found.train[0][:, 3:], torch.tensor(images).flatten(1) / 255)
    assert checked(train=((X,), Y)).input_shapes == ()


def test_the_fingerprint_is_of_all_that_was_returned() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"train": (X + 1, Y)},
        {"train": (X, 1 - Y)},
        {"test": (X, Y)},
        {"classes": ["a", "b"]},
        {"train": (X.reshape(4, 3, 1), Y)},
        {"train": (X, TWO)},
        {"train": (X, TWO.astype(float))},
        {"train": ((X, X), Y)},
        {"train": ((X[:, :2], np.concatenate([X, X[:, :1]], axis=1)), Y)},
        {"train": (np.concatenate([X, X], axis=1), Y)},
    ]
    assert len({checked(**change).fingerprint for change in changes}) == len(changes)
    assert checked().fingerprint == checked().fingerprint


def test_seed_and_root_are_offered_where_the_signature_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "offered_to.py").write_text("def both(seed, root, noise=1): ...\ndef none(noise=1): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seed = seed32(5, Purpose.DATA, replicate=2)
    assert offers("offered_to:both", seed=5, replicate=2, root=tmp_path) == {"seed": seed, "root": tmp_path}
    assert offers("offered_to:none", seed=5, replicate=2, root=tmp_path) == {}
