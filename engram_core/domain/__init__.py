"""Words as types: the vocabulary of Engram. This room computes nothing and imports nothing above it."""
