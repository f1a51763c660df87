"""Arrow without pandas: half of the time that a command spends before it reads its first result."""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from typing import Any

BLAS_THREADS = "OPENBLAS_NUM_THREADS"


class _Hidden(MetaPathFinder):
    """Has an import of pandas fail."""

    def find_spec(self, fullname: str, *_: Any) -> None:
        """Raise for pandas; of all else know nothing."""
        if fullname == "pandas":
            raise ModuleNotFoundError("hidden for a moment", name=fullname)


def do_without_pandas() -> None:
    """Have pyarrow find no pandas, so that it does not import it: 0.2 s of 0.6 s of processor time (measured).

    pyarrow imports pandas at the first scalar it makes, to know pandas' types when it meets them. Where pandas is
    really needed (`to_pandas`) it tries again, so nothing is lost to who uses both in this process.
    """
    if "pandas" in sys.modules:
        return
    _import_numpy()
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(hidden)


def _import_numpy() -> None:
    """Import numpy without threads for linear algebra, which no reader of results does: they take 40 ms to start."""
    if "numpy" in sys.modules or BLAS_THREADS in os.environ:
        return
    os.environ[BLAS_THREADS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ[BLAS_THREADS]
