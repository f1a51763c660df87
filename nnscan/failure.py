"""What a thrown exception means for a trial and for the scan."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass

from nnscan.trial import Failure

LONGEST_ERROR = 500
LONGEST_TRACEBACK = 20_000
"""Characters of a row's texts: a message may hold a whole tensor, a recursion a thousand frames."""

TRIES = 3
"""How often a trial is tried when its worker dies in it."""

FAILURES_IN_A_ROW = 5
"""So many failures in a row in a worker, all the same, stop the scan: the fault lies in the code, not in the grid."""


@dataclass(frozen=True)
class Thrown:
    """An exception, told for a row."""

    failure: Failure
    error: str
    """One line: type and message."""
    traceback: str
    place: str
    """File and line that raised it."""


def describe(error: BaseException) -> Thrown:
    """Tell `error` for a row."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    first_line = (_text(error).splitlines() or [""])[0]
    return Thrown(
        failure=Failure.OUT_OF_MEMORY if is_out_of_memory(error) else Failure.CONFIG,
        error=_shortened(f"{type(error).__name__}: {first_line}".removesuffix(": "), LONGEST_ERROR),
        traceback=_shortened("".join(traceback.format_exception(error)), LONGEST_TRACEBACK),
        place=place,
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of a user's own may fail in telling what it is
        return "<it cannot be told: its __str__ throws>"


def _shortened(text: str, longest: int) -> str:
    """Return `text` without its middle where it is too long: a traceback is read from its ends."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters left out ... {text[-half:]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that host or device memory ran out."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # torch's CPU allocator raises a bare RuntimeError.
    return isinstance(error, MemoryError) or "can't allocate memory" in _text(error)


@dataclass
class FailureStreak:
    """Counts the failures in a row of one worker that are the same: type and line."""

    cause: tuple[str, str] = ("", "")
    length: int = 0

    def ended(self, thrown: Thrown | None) -> bool:
        """Count an attempt that ended so (None: without exception); return whether the scan should stop."""
        cause = (thrown.error.split(":")[0], thrown.place) if thrown else ("", "")
        self.length = self.length + 1 if thrown and cause == self.cause else int(thrown is not None)
        self.cause = cause
        return self.length >= FAILURES_IN_A_ROW
