"""nnscan: train every point of a neural-network grid, keep every result, retrain the winners.

    import nnscan

    scan = nnscan.load("jobs/digits.toml", overrides=["training.epochs=3"])
    nnscan.launch(scan, workers=2)
    print(nnscan.summarize(scan).families[0].leaders[0])
    nnscan.retrain_best(scan)

These names are all that is promised; `nnscan.api` says what each does. Importing this package loads neither torch nor
ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nnscan.errors import NnscanError
from nnscan.version import __version__

if TYPE_CHECKING:
    from nnscan.api import (
        cancel,
        dry_run,
        evaluate,
        launch,
        predict,
        read_epochs,
        read_steps,
        read_trials,
        retrain_best,
        status,
        summarize,
        watch,
        write_report,
    )
    from nnscan.scan import Scan, load

__all__ = [
    "NnscanError",
    "Scan",
    "__version__",
    "cancel",
    "dry_run",
    "evaluate",
    "launch",
    "load",
    "predict",
    "read_epochs",
    "read_steps",
    "read_trials",
    "retrain_best",
    "status",
    "summarize",
    "watch",
    "write_report",
]

_HOMES = {"Scan": "nnscan.scan", "load": "nnscan.scan"}


if not TYPE_CHECKING:  # else a type checker would take any name for granted

    def __getattr__(name: str) -> object:
        # `import nnscan` takes 20 ms, with everything behind these names 10 times that (PEP 562).
        if name not in __all__:
            raise AttributeError(f"module 'nnscan' has no attribute {name!r}; it has: {', '.join(__all__)}")
        value = getattr(import_module(_HOMES.get(name, "nnscan.api")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
