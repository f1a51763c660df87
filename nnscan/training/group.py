"""The processes that train a trial together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Group(Protocol):
    """The ranks of a trial; each calls the same methods in the same order."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0; rank 0 writes."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def share(self, count: int) -> slice:
        """Return the part of `count` examples in order that is this rank's; the parts differ by one at most."""
        ...

    def add(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over the ranks, the same bits on each."""
        ...

    def agree(self, flag: bool) -> bool:
        """Return whether any rank says so; waits for all."""
        ...

    def soon(self, flag: bool) -> bool:
        """Return, on every rank alike, whether any said so at the call before: asked each step, it waits for nobody."""
        ...

    def stack(self, values: Tensor) -> Tensor:
        """Return the `values` of all ranks, which have one shape: (size, *shape), in the order of the ranks."""
        ...

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks in their order, one behind the other along dimension 0; lengths may differ."""
        ...

    def tell(self, content: bytes) -> bytes:
        """Return, on every rank, the `content` of rank 0."""
        ...

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return `model` such that a backward pass leaves the mean of the ranks' gradients in its parameters."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


@dataclass(frozen=True)
class Alone:
    """One process: every question is answered at once."""

    rank: int = 0
    size: int = 1

    def share(self, count: int) -> slice:
        """Return everything."""
        return slice(0, count)

    def add(self, values: Tensor) -> Tensor:
        """Return `values`."""
        return values

    def agree(self, flag: bool) -> bool:
        """Return `flag`."""
        return flag

    def soon(self, flag: bool) -> bool:
        """Return `flag`, at once."""
        return flag

    def stack(self, values: Tensor) -> Tensor:
        """Return `values` as the only row."""
        return values[None]

    def gather(self, rows: Tensor) -> Tensor:
        """Return `rows`."""
        return rows

    def tell(self, content: bytes) -> bytes:
        """Return `content`."""
        return content

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return `model`."""
        return model

    def close(self) -> None:
        """Do nothing."""


ALONE = Alone()


def share(rank: int, size: int, count: int) -> slice:
    """Return the part of `count` examples in order that is `rank`'s of `size` ranks; they differ by one at most."""
    return slice(rank * count // size, (rank + 1) * count // size)
