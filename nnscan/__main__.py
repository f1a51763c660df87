"""`python -m nnscan`: the same commands as `nnscan`."""

from __future__ import annotations

from nnscan.cli import main

main()
