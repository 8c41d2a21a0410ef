"""Multigrid, classical and learned: geometric and algebraic cycles, MgNO, and MgNO with a certificate."""

from sciml_bounds.multigrid._algebraic import algebraic_cycle
from sciml_bounds.multigrid._flux_head import BoundLoss, CertifiedMgNO
from sciml_bounds.multigrid._geometric import lattice_cycle
from sciml_bounds.multigrid._mgno import MgNO
from sciml_bounds.multigrid._published_mgno import PublishedMgNO

__all__ = [
    "BoundLoss",
    "CertifiedMgNO",
    "MgNO",
    "PublishedMgNO",
    "algebraic_cycle",
    "lattice_cycle",
]
