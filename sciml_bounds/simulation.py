"""Simulations: wells and pressure solvers for external codes, smoke, and incompressible flow on the torus."""

from sciml_bounds._cell_solver import CellSolver
from sciml_bounds.evolution.bodies import Ball, Block, Body, Star, Voxels
from sciml_bounds.evolution.navier_stokes import NavierStokes, crank_nicolson_euler, diagonal_forcing
from sciml_bounds.evolution.pressure_projection import PressureEquations
from sciml_bounds.evolution.recording import record
from sciml_bounds.evolution.scenes import SCENES, Scene, make_scene
from sciml_bounds.evolution.smoke import Smoke, Source
from sciml_bounds.evolution.smoke_pictures import animate, draw
from sciml_bounds.evolution.smoke_state import SmokeState, StepReport
from sciml_bounds.pressure import Preconditioned, PressureSolver, learned_cycle, learned_directions
from sciml_bounds.problems.wells import Well, with_wells
from sciml_bounds.results import CellSolution

__all__ = [
    "SCENES",
    "Ball",
    "Block",
    "Body",
    "CellSolution",
    "CellSolver",
    "NavierStokes",
    "Preconditioned",
    "PressureEquations",
    "PressureSolver",
    "Scene",
    "Smoke",
    "SmokeState",
    "Source",
    "Star",
    "StepReport",
    "Voxels",
    "Well",
    "animate",
    "crank_nicolson_euler",
    "diagonal_forcing",
    "draw",
    "learned_cycle",
    "learned_directions",
    "make_scene",
    "record",
    "with_wells",
]
