"""Bundles as jobs of Slurm: what is asked and submitted on a login node, and what runs inside the jobs."""
