"""The report of a scan: one page with every figure, made of the store and the model folders alone.

`material` reads; `curves`, `effects`, `coordinates`, `predictions`, `examples`, `steps` and `activations` turn tables
into small dataclasses; `drawing/` turns those into figures; `sections` says which
a scan has; `page` puts them together.
"""
