"""What a network says of data that it cannot take."""

from __future__ import annotations

from collections.abc import Sequence


def image_shape(input_shape: Sequence[int], name: str, *, smallest: int = 1) -> tuple[int, int, int]:
    """Return channels, height and width of the images that `input_shape` describes.

    Raises
    ------
    ValueError
        Where it describes no images, or a side has fewer than `smallest` pixels; `name` is the network's.
    """
    if len(input_shape) != 3:
        raise ValueError(
            f"model.name = {name!r} takes images of shape (channels, height, width); the data have"
            f" {tuple(input_shape)}. Use 'mlp', or a model function of your own."
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise ValueError(
            f"model.name = {name!r} takes images of {smallest} x {smallest} pixels or more; the data have"
            f" {height} x {width}. Use 'cnn' or 'mlp'."
        )
    return channels, height, width
