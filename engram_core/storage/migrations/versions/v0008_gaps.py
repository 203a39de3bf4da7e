"""0008: gaps that reflection found.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the diary's own books; what it reads is there already."""
    op.create_table(
        "gaps",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("scope_id", _KEY, nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("lapses", sa.Text(), nullable=False),
        sa.Column("fact_id", sa.String(length=36), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("rule", sa.String(length=60), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("fk_gaps_scope_id_scopes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gaps")),
    )
    op.create_index(op.f("ix_gaps_scope_id"), "gaps", ["scope_id"], unique=False)
    op.create_table(
        "reflections",
        sa.Column("scope_id", _KEY, nullable=False),
        sa.Column("episode", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("fk_reflections_scope_id_scopes")),
        sa.PrimaryKeyConstraint("scope_id", name=op.f("pk_reflections")),
    )


def downgrade() -> None:
    """Drop them; facts that filled gaps stay, with their own histories."""
    op.drop_table("reflections")
    op.drop_index(op.f("ix_gaps_scope_id"), table_name="gaps")
    op.drop_table("gaps")
