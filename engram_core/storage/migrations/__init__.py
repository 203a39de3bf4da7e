"""Alembic migrations of the ledger. Each script moves every released schema one step; none reads facts into memory."""
