"""Plugs for remembering and finding: ledgers, vector indexes and the projector between them. No rules about memory."""
