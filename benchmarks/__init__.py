"""Benchmarks: each prints a ratio or a table in one run against named baselines. Run as `python -m benchmarks.NAME`."""
