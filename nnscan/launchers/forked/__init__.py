"""Bundles in processes of this machine that nnscan forks from a warmed one, without Ray."""
