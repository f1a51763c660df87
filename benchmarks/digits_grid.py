"""Training time of 200 configurations x 5 folds of a tiny network: nnscan, a plain resident loop, Ray Tune by hand.

Digits of 8x8 pixels, MLP 64-32-10, 20 learning rates x 10 weight decays, batch 32, Adam, 10 epochs: 1,000 trials of 360
steps. Time is from the first trial's start to the last one's end on two processes of one thread, without imports; the
plain loop trains 40 of the configurations and Ray Tune 4, scaled to all.

usage: python benchmarks/digits_grid.py [--repeat N] [--without-ray] [--options OPTIONS]
"""

from __future__ import annotations

import argparse
from functools import partial

from grids import WAYS, Measured, Way, by_hand, launched, measure, options, table
from peers.digits_loop import LEARNING_RATES, WEIGHT_DECAYS

EPOCHS = 10
CONFIGURATIONS = len(LEARNING_RATES) * len(WEIGHT_DECAYS)
LOOPED, TUNED = 40, 4
SCAN = f"""
name = "grid"
[data]
name = "digits"
test = 0.2
[validation]
folds = 5
[training]
epochs = {EPOCHS}
batch_size = 32
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = 32
model.depth = 1
optimizer.name = "adam"
optimizer.learning_rate = {LEARNING_RATES}
optimizer.weight_decay = {WEIGHT_DECAYS}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--options", type=options, default=(), help="more for `nnscan launch`")
    asked = parser.parse_args()
    ways = [
        Way("nnscan", partial(launched, SCAN, *WAYS["nnscan"], *asked.options)),
        peer("plain resident loop", "digits_loop.py", LOOPED),
    ]
    if not asked.without_ray:
        ways.append(peer("Ray Tune", "ray_tune_digits.py", TUNED))
    measure(ways, asked.repeat, once=["Ray Tune"])
    table(f"{CONFIGURATIONS} configurations x 5 folds of digits, {EPOCHS} epochs", ways, training=True)
    table("The same, whole process", ways[:1])


def peer(name: str, script: str, configurations: int) -> Way:
    """Return a way that trains a part of the configurations."""
    scaled_by = CONFIGURATIONS / configurations
    measured: partial[Measured] = partial(by_hand, script, EPOCHS, configurations, scaled_by=scaled_by)
    return Way(name, measured, scaled_by)


if __name__ == "__main__":
    main()
