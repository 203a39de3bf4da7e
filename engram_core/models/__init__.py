"""Plugs for models: embedders, token counters, language models. They import inward only and never touch storage."""
