"""0011: decisions are found by their episode, not by reading all of them.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the decisions by episode."""
    op.create_index(op.f("ix_decisions_episode_id"), "decisions", ["episode_id"])


def downgrade() -> None:
    """Read all of them again."""
    op.drop_index(op.f("ix_decisions_episode_id"), table_name="decisions")
