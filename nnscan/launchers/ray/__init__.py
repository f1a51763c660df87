"""Bundles as trials of Ray Tune: a driver process, its workers, and the ranks beside them."""
