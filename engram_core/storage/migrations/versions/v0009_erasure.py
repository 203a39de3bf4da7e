"""0009: whom facts are about, what was erased and must not come back, and what may not go.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add subjects, erasures with their tombstones, and holds. What older facts are about is told by their origin."""
    op.add_column("facts", sa.Column("subjects", sa.Text(), nullable=False, server_default="[]"))
    op.create_index(
        "ix_facts_consolidated_into",
        "facts",
        ["consolidated_into"],
        sqlite_where=sa.text("consolidated_into IS NOT NULL"),
        postgresql_where=sa.text("consolidated_into IS NOT NULL"),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    op.create_table(
        "tombstones",
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("erasure", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_tombstones")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_tombstones_erasure"), "tombstones", ["erasure"])
    op.create_table(
        "holds",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("scope_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("fact_id", sa.String(length=36), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("released_at", sa.Float(), nullable=True),
        sa.Column("released_by", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("fk_holds_scope_id_scopes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
    )


def downgrade() -> None:
    """Drop them. What was erased stays erased; nothing keeps it from being told again."""
    op.drop_table("holds")
    op.drop_table("tombstones")
    op.drop_table("erasures")
    op.drop_index("ix_facts_consolidated_into", "facts")
    op.drop_column("facts", "subjects")
