"""PDE solvers, classical and learned, behind one interface, and every answer with a bound that can be checked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sciml_bounds._linear import Algebraic as Algebraic
    from sciml_bounds._linear import Multigrid as Multigrid
    from sciml_bounds._solve import Progress as Progress
    from sciml_bounds._solve import Solver as Solver
    from sciml_bounds._solve import prepare as prepare
    from sciml_bounds._solve import solve as solve
    from sciml_bounds._versions import show_versions as show_versions
    from sciml_bounds.barron.capacity import Capacity as Capacity
    from sciml_bounds.barron.capacity import capacity as capacity
    from sciml_bounds.barron.elliptic import SolutionNorms as SolutionNorms
    from sciml_bounds.barron.elliptic import solution_norms as solution_norms
    from sciml_bounds.barron.function import BarronFunction as BarronFunction
    from sciml_bounds.barron.greedy import greedy_network as greedy_network
    from sciml_bounds.barron.network import BarronNetwork as BarronNetwork
    from sciml_bounds.barron.network_solution import NetworkSolution as NetworkSolution
    from sciml_bounds.barron.optimal_sampling import OptimalSample as OptimalSample
    from sciml_bounds.barron.optimal_sampling import optimal_sample as optimal_sample
    from sciml_bounds.barron.random_features import random_feature_network as random_feature_network
    from sciml_bounds.barron.ritz import ritz_network as ritz_network
    from sciml_bounds.barron.samplers import SampledNetwork as SampledNetwork
    from sciml_bounds.barron.samplers import sample_network as sample_network
    from sciml_bounds.barron.samplers import width_for as width_for
    from sciml_bounds.barron.unfolded import unfolded_network as unfolded_network
    from sciml_bounds.bounds.calibrated import CalibratedPair as CalibratedPair
    from sciml_bounds.bounds.calibrated import Calibration as Calibration
    from sciml_bounds.bounds.calibrated import calibrate as calibrate
    from sciml_bounds.bounds.calibrated import calibrate_bound as calibrate_bound
    from sciml_bounds.bounds.certify import certify as certify
    from sciml_bounds.bounds.energy_certificate import EnergyCertificate as EnergyCertificate
    from sciml_bounds.bounds.goals import BoundaryFlux as BoundaryFlux
    from sciml_bounds.bounds.goals import EffectivePermeability as EffectivePermeability
    from sciml_bounds.bounds.goals import Mean as Mean
    from sciml_bounds.errors import ConvergenceError as ConvergenceError
    from sciml_bounds.errors import ConvergenceWarning as ConvergenceWarning
    from sciml_bounds.errors import InputError as InputError
    from sciml_bounds.errors import MissingExtraError as MissingExtraError
    from sciml_bounds.errors import TrainingError as TrainingError
    from sciml_bounds.grid import Box as Box
    from sciml_bounds.grid import Dirichlet as Dirichlet
    from sciml_bounds.grid import Grid as Grid
    from sciml_bounds.grid import Neumann as Neumann
    from sciml_bounds.grid import Periodic as Periodic
    from sciml_bounds.grid import Robin as Robin
    from sciml_bounds.krylov.cg import cg as cg
    from sciml_bounds.krylov.learned_directions import LearnedDirections as LearnedDirections
    from sciml_bounds.krylov.minres import minres as minres
    from sciml_bounds.multigrid.flux_head import CertifiedMgNO as CertifiedMgNO
    from sciml_bounds.multigrid.mgno import MgNO as MgNO
    from sciml_bounds.newton.control import DistributedControl as DistributedControl
    from sciml_bounds.newton.estimation import CoefficientEstimation as CoefficientEstimation
    from sciml_bounds.newton.minimize import minimize as minimize
    from sciml_bounds.newton.minres import Minres as Minres
    from sciml_bounds.newton.result import OptimizeResult as OptimizeResult
    from sciml_bounds.newton.sketched import SketchedNewton as SketchedNewton
    from sciml_bounds.newton.variational import minimize_energy as minimize_energy
    from sciml_bounds.newton.variational_result import VariationalSolution as VariationalSolution
    from sciml_bounds.operators.linear_operator import LinearOperator as LinearOperator
    from sciml_bounds.operators.linear_operator import aslinearoperator as aslinearoperator
    from sciml_bounds.problems.diffusion import Diffusion as Diffusion
    from sciml_bounds.problems.energies import GinzburgLandau as GinzburgLandau
    from sciml_bounds.problems.energies import IsotropicEnergy as IsotropicEnergy
    from sciml_bounds.problems.energies import MinimalSurface as MinimalSurface
    from sciml_bounds.problems.energies import PLaplacian as PLaplacian
    from sciml_bounds.problems.energies import QuadraticEnergy as QuadraticEnergy
    from sciml_bounds.problems.energies import ShearThinning as ShearThinning
    from sciml_bounds.problems.energy_density import EnergyDensity as EnergyDensity
    from sciml_bounds.problems.variational import VariationalProblem as VariationalProblem
    from sciml_bounds.recipes._registry import recipe_names as recipe_names
    from sciml_bounds.recipes.generation import consolidate as consolidate
    from sciml_bounds.recipes.generation import make_dataset as make_dataset
    from sciml_bounds.recipes.generation import make_shard as make_shard
    from sciml_bounds.reports import Reason as Reason
    from sciml_bounds.results import Certificate as Certificate
    from sciml_bounds.results import LinearSolution as LinearSolution
    from sciml_bounds.results import Solution as Solution
    from sciml_bounds.store.datasets import open_dataset as open_dataset
    from sciml_bounds.store.foreign import import_dataset as import_dataset
    from sciml_bounds.store.pdebench import export_pdebench as export_pdebench
    from sciml_bounds.store.results import read as read
    from sciml_bounds.store.results import write as write
    from sciml_bounds.store.the_well import export_the_well as export_the_well
    from sciml_bounds.store.torch_dataset import TorchDataset as TorchDataset
    from sciml_bounds.store.weights import load_model as load_model
    from sciml_bounds.store.weights import save_model as save_model
    from sciml_bounds.training.evaluation import evaluate as evaluate
    from sciml_bounds.training.result import TrainingResult as TrainingResult
    from sciml_bounds.training.settings import TrainingSettings as TrainingSettings
    from sciml_bounds.training.trainer import train as train

#: The public names and the modules they come from; a module is imported when its first name is used.
_HOME = {
    "Algebraic": "_linear",
    "BarronFunction": "barron.function",
    "BarronNetwork": "barron.network",
    "BoundaryFlux": "bounds.goals",
    "Box": "grid",
    "CalibratedPair": "bounds.calibrated",
    "Calibration": "bounds.calibrated",
    "Capacity": "barron.capacity",
    "Certificate": "results",
    "CertifiedMgNO": "multigrid.flux_head",
    "CoefficientEstimation": "newton.estimation",
    "ConvergenceError": "errors",
    "ConvergenceWarning": "errors",
    "Diffusion": "problems.diffusion",
    "Dirichlet": "grid",
    "DistributedControl": "newton.control",
    "EffectivePermeability": "bounds.goals",
    "EnergyCertificate": "bounds.energy_certificate",
    "EnergyDensity": "problems.energy_density",
    "GinzburgLandau": "problems.energies",
    "Grid": "grid",
    "InputError": "errors",
    "IsotropicEnergy": "problems.energies",
    "LearnedDirections": "krylov.learned_directions",
    "LinearOperator": "operators.linear_operator",
    "LinearSolution": "results",
    "Mean": "bounds.goals",
    "MgNO": "multigrid.mgno",
    "MinimalSurface": "problems.energies",
    "Minres": "newton.minres",
    "MissingExtraError": "errors",
    "Multigrid": "_linear",
    "NetworkSolution": "barron.network_solution",
    "Neumann": "grid",
    "OptimalSample": "barron.optimal_sampling",
    "OptimizeResult": "newton.result",
    "PLaplacian": "problems.energies",
    "Periodic": "grid",
    "Progress": "_solve",
    "QuadraticEnergy": "problems.energies",
    "Reason": "reports",
    "Robin": "grid",
    "SampledNetwork": "barron.samplers",
    "ShearThinning": "problems.energies",
    "SketchedNewton": "newton.sketched",
    "Solution": "results",
    "SolutionNorms": "barron.elliptic",
    "Solver": "_solve",
    "TorchDataset": "store.torch_dataset",
    "TrainingError": "errors",
    "TrainingResult": "training.result",
    "TrainingSettings": "training.settings",
    "VariationalProblem": "problems.variational",
    "VariationalSolution": "newton.variational_result",
    "aslinearoperator": "operators.linear_operator",
    "calibrate": "bounds.calibrated",
    "calibrate_bound": "bounds.calibrated",
    "capacity": "barron.capacity",
    "certify": "bounds.certify",
    "cg": "krylov.cg",
    "consolidate": "recipes.generation",
    "evaluate": "training.evaluation",
    "export_pdebench": "store.pdebench",
    "export_the_well": "store.the_well",
    "greedy_network": "barron.greedy",
    "import_dataset": "store.foreign",
    "load_model": "store.weights",
    "make_dataset": "recipes.generation",
    "make_shard": "recipes.generation",
    "minimize": "newton.minimize",
    "minimize_energy": "newton.variational",
    "minres": "krylov.minres",
    "open_dataset": "store.datasets",
    "optimal_sample": "barron.optimal_sampling",
    "prepare": "_solve",
    "random_feature_network": "barron.random_features",
    "read": "store.results",
    "recipe_names": "recipes._registry",
    "ritz_network": "barron.ritz",
    "sample_network": "barron.samplers",
    "save_model": "store.weights",
    "show_versions": "_versions",
    "solution_norms": "barron.elliptic",
    "solve": "_solve",
    "train": "training.trainer",
    "unfolded_network": "barron.unfolded",
    "width_for": "barron.samplers",
    "write": "store.results",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sciml_bounds' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sciml_bounds.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
