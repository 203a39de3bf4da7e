"""0002: what verdicts say about each fact, scope by scope.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tallies, each scope's count of judged recalls, and when and for which question a verdict counts."""
    op.add_column("scopes", sa.Column("judged", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("usage", sa.Column("tick", sa.BigInteger(), nullable=True))
    op.add_column("usage", sa.Column("question", sa.LargeBinary(), nullable=True))
    op.create_index("ix_usage_scope_id_id", "usage", ["scope_id", "id"])
    op.create_table(
        "tallies",
        sa.Column("scope_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("fact_id", sa.String(length=36), nullable=False),
        sa.Column("recalled", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.Column("judged", sa.Integer(), nullable=False),
        sa.Column("times_used", sa.Integer(), nullable=False),
        sa.Column("tick", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("fk_tallies_scope_id_scopes")),
        sa.PrimaryKeyConstraint("scope_id", "fact_id", name=op.f("pk_tallies")),
    )
    op.create_index("ix_tallies_scope_id_tick", "tallies", ["scope_id", "tick"])
    op.create_index("ix_tallies_fact_id", "tallies", ["fact_id"])


def downgrade() -> None:
    """Forget what verdicts taught; the verdicts stay."""
    op.drop_table("tallies")
    op.drop_index("ix_usage_scope_id_id", table_name="usage")
    op.drop_column("usage", "question")
    op.drop_column("usage", "tick")
    op.drop_column("scopes", "judged")
