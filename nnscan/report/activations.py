"""Where a network looked: class activation maps of examples, by the model in a model folder."""

from __future__ import annotations

from dataclasses import dataclass

from nnscan.report.examples import Example
from nnscan.results.selection import Floats


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A picture, and where the network saw the class that it predicts."""

    example: Example
    map: Floats
    """(h, w), from 0 to 1."""
