"""Verbs: one file each. They connect designs, floor and ledger through ports, and name no backend."""
