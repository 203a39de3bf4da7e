"""0005: consolidated facts say how they were made, and their originals where they went.

Revision ID: 0005
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Columns of facts and scopes, and the index that finds a scope's weightiest facts without reading it whole."""
    op.add_column("scopes", sa.Column("held", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("facts", sa.Column("form", sa.String(length=12), nullable=False, server_default="statement"))
    op.add_column("facts", sa.Column("consolidated_into", sa.String(length=36), nullable=True))
    op.create_index(
        "ix_facts_scope_id_importance", "facts", ["scope_id", "pinned", "importance", "said_at"], unique=False
    )


def downgrade() -> None:
    """Consolidated facts lose the links to their originals, which stay archived."""
    op.drop_index("ix_facts_scope_id_importance", table_name="facts")
    op.drop_column("facts", "consolidated_into")
    op.drop_column("facts", "form")
    op.drop_column("scopes", "held")
