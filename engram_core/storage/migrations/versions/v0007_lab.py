"""0007: proposals and their steps, and the archive of designs.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the lab's books."""
    op.create_table(
        "proposals",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("scope_id", _KEY, nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("rationale", sa.Text(), nullable=False),
        sa.Column("diff", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("prediction", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["scope_id"], ["scopes.id"], name=op.f("fk_proposals_scope_id_scopes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposals")),
    )
    op.create_index(op.f("ix_proposals_scope_id"), "proposals", ["scope_id"])
    op.create_table(
        "proposal_steps",
        sa.Column("proposal_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("principal", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["proposal_id"], ["proposals.id"], name=op.f("fk_proposal_steps_proposal_id_proposals")
        ),
        sa.PrimaryKeyConstraint("proposal_id", "number", name=op.f("pk_proposal_steps")),
    )
    op.create_table(
        "shadows",
        sa.Column("proposal_id", sa.String(length=36), nullable=False),
        sa.Column("recall_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_shadows_proposal_id_proposals")),
        sa.PrimaryKeyConstraint("proposal_id", "recall_id", name=op.f("pk_shadows")),
    )
    op.create_table(
        "designs",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("parents", sa.Text(), nullable=False),
        sa.Column("operator", sa.String(length=60), nullable=False),
        sa.Column("rationale", sa.Text(), nullable=False),
        sa.Column("made_by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_designs")),
        sa.UniqueConstraint("number", name=op.f("uq_designs_number")),
    )
    op.create_table(
        "design_trials",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("design_id", sa.String(length=80), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("arm", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("suite", sa.String(length=64), nullable=False),
        sa.Column("split", sa.String(length=12), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("fitness", sa.Float(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["design_id"], ["designs.id"], name=op.f("fk_design_trials_design_id_designs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_design_trials")),
    )
    for column in ("design_id", "run_id", "suite"):
        op.create_index(op.f(f"ix_design_trials_{column}"), "design_trials", [column])
    op.create_table(
        "lab_runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("setup", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lab_runs")),
    )


def downgrade() -> None:
    """Drop the lab's books: proposals and designs are gone with them, policies stay as they are."""
    for name in ("lab_runs", "design_trials", "designs", "shadows", "proposal_steps", "proposals"):
        op.drop_table(name)
