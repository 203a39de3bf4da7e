"""`python -m engram_core.cli`, for where the `engram` script is not on the path. It does nothing else."""

from engram_core.cli import main

main()
