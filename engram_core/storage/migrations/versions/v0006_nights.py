"""0006: what each night did.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the books of the night."""
    op.create_table(
        "nights",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("path", sa.String(length=520), nullable=True),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("totals", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nights")),
    )
    op.create_table(
        "scope_nights",
        sa.Column("night_id", sa.String(length=36), nullable=False),
        sa.Column("scope_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["night_id"], ["nights.id"], name=op.f("fk_scope_nights_night_id_nights"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("fk_scope_nights_scope_id_scopes")),
        sa.PrimaryKeyConstraint("night_id", "scope_id", name=op.f("pk_scope_nights")),
    )


def downgrade() -> None:
    """Drop the books of the night; what nights did is in the facts' histories."""
    op.drop_table("scope_nights")
    op.drop_table("nights")
