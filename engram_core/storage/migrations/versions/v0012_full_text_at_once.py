"""0012: PostgreSQL puts new facts into the full text at once, not into a list that every search reads.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_INDEX = "ix_fact_words_terms"


def upgrade() -> None:
    """Keep no list of what is not in the index yet: some hundred pages of it cost a search ten times what it finds."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX {_INDEX} SET (fastupdate = off)")
        op.execute(f"SELECT gin_clean_pending_list('{_INDEX}'::regclass)")


def downgrade() -> None:
    """Let the list grow again until a vacuum."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX {_INDEX} RESET (fastupdate)")
