"""0004: when a person last restored a fact, so that the night leaves it alone for a while.

Revision ID: 0004
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; nothing was restored by a person before."""
    op.add_column("facts", sa.Column("restored_at", sa.Float()))


def downgrade() -> None:
    """Forget when facts were restored."""
    op.drop_column("facts", "restored_at")
