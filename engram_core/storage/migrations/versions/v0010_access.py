"""0010: who may do what, and the chain of what was done.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the books of access and audit; the ledger starts the chain with digests of the rows it finds."""
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "grants",
        sa.Column("id", key, autoincrement=True, nullable=False),
        sa.Column("grantee", sa.String(length=200), nullable=False),
        sa.Column("verb", sa.String(length=8), nullable=False),
        sa.Column("scope", sa.String(length=520), nullable=False),
        sa.Column("deep", sa.Boolean(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("max_trust", sa.Float(), nullable=False),
        sa.Column("granted_by", sa.String(length=200), nullable=False),
        sa.Column("granted_at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    op.create_table(
        "members",
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "principal", name=op.f("pk_members")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "private_scopes",
        sa.Column("path", sa.String(length=520), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_private_scopes")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "heads",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heads")),
    )
    op.create_table(
        "audit",
        sa.Column("number", key, autoincrement=False, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("verb", sa.String(length=8), nullable=False),
        sa.Column("operation", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=520), nullable=True),
        sa.Column("decision", sa.String(length=8), nullable=False),
        sa.Column("granted", sa.String(length=40), nullable=False),
        sa.Column("fact_ids", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )


def downgrade() -> None:
    """Drop the books of access and audit: every grant is gone, and only the owner may do anything."""
    for table in ("audit", "heads", "private_scopes", "members", "grants"):
        op.drop_table(table)
    op.execute("DELETE FROM settings WHERE name = 'audit_key'")
