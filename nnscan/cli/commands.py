"""How every command ends: what became of an error, an interruption, or a reader that went away."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from nnscan.errors import NnscanError

INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Commands(TyperGroup):
    """The commands; an error that nnscan raises on purpose is told without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn what it raises into a message and an exit code."""
        if os.environ.get("NO_COLOR"):  # https://no-color.org; rich looks by itself
            ctx.color = False
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a broken pipe can still be caught
        except NnscanError as error:
            tell_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            tell_error("Interrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _end_quietly()
        return result


def tell_error(text: str) -> None:
    """Print an error for people on stderr."""
    typer.secho("Error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(text, err=True)


def _end_quietly() -> None:
    # `nnscan summarize | head` closes our stdout. Python would complain once more when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(BROKEN_PIPE)
