"""Bench: judge-free measurement of any memory on labelled conversations (docs/benchmarks.md). It knows no facade."""
