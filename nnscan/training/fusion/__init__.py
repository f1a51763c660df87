"""Several trials trained together in one process: their networks have one shape, and each step is one of all of them.

A step of a small network is overhead, not arithmetic: fused, many networks share it.
"""
