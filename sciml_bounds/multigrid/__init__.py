"""Multigrid, classical and learned: geometric and algebraic cycles, MgNO, and MgNO with a certificate."""

from sciml_bounds.multigrid._algebraic import algebraic_cycle
from sciml_bounds.multigrid._flux_head import BoundLoss, CertifiedMgNO
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.multigrid._mgno import MgNO

__all__ = [
    "BoundLoss",
    "CertifiedMgNO",
    "MgNO",
    "algebraic_cycle",
    "lattice_cycle",
]
