"""Tasks: what designs are tried on, without a judge. Each has a dev and a gate split; none knows a design."""
