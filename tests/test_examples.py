"""The scripts of the gallery run, and their numbers are what their texts say."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {path.stem: path for path in sorted(EXAMPLES.glob("*.py"))}

#: What is asserted of the numbers of each script.
CLAIMS: dict[str, Callable[[dict[str, float]], bool]] = {
    # the guaranteed bounds are ordered, and the text says 9 %
    "solve_and_certify": lambda n: 0 < n["lower"] < n["upper"] and n["relative upper"] < 0.09,
    # the true error is known in closed form; at size 10 both bounds meet it, but for the 0.004 of the mesh in 6
    "certify_a_wrong_answer": lambda n: (
        n["share of true errors inside"] == 1 and 1 <= n["upper / true error at size 10"] < 1.001
    ),
    # the bump is 0.03 wide
    "find_a_fault": lambda n: (n["x of the largest indicator"] - 0.7) ** 2 + (n["y"] - 0.3) ** 2 < 0.03**2,
    # the exact value lies inside (Keller)
    "effective_permeability": lambda n: n["lower"] <= n["exact"] <= n["upper"] < 1.05 * n["lower"],
    # order 1 for a solution in H^2, with terms of relative size h^2 beside it; the true error is known from a series
    "convergence_order": lambda n: (
        n["order of the upper bound"] == pytest.approx(1, abs=0.01)
        and n["order of the true error"] == pytest.approx(1, abs=0.01)
        and n["lower / true"] <= 1 <= n["upper / true"]
    ),
    # linear solutions are solved for exactly, up to the relative residual of 1e-8; heat alpha / (1 + alpha) comes in
    "boundary_conditions": lambda n: (
        n["largest nodal error"] < 1e-7
        and n["heat flux for alpha = 10, lower"] <= 10 / 11 + 1e-12
        and n["upper"] >= 10 / 11 - 1e-12
    ),
    # the coil conducts better than its surroundings, where a = 1
    "three_dimensions": lambda n: (
        1 < n["effective permeability, lower"] <= n["upper"] < 1.02 * n["effective permeability, lower"]
    ),
    # two solves to a relative residual of 1e-8 each
    "batch_of_problems": lambda n: n["largest relative width"] < 0.01 and n["difference from a solve alone"] < 1e-7,
    # implicit Euler is of order 1; the next term is of relative size lambda dt = 2 pi^2 / 320 = 0.06
    "heat_equation": lambda n: n["order in dt"] == pytest.approx(1, abs=0.06),
    # iterations of conjugate gradients grow like the root of the condition number, 1 / h
    "multigrid_iterations": lambda n: (
        n["multigrid, 256 x 256"] <= n["multigrid, 16 x 16"] + 1
        and n["cg, growth from 128 to 256"] == pytest.approx(2, rel=0.1)
    ),
    # the same iterates up to round-off: a few eps in each of five iterations
    "scipy_drop_in": lambda n: (
        n["iterations, scipy"] == n["iterations, here"]
        and n["largest relative difference"] < 1e-13
        and n["relative residual"] <= 1e-8
    ),
    # |||u - v||| <= |||u - u_h||| + |||u_h - v|||, so that model.lower <= upper + mesh.upper; on 200 test media
    # the true error was at most 8.9 %, and the bound 1.31 times that (benchmarks/predictions.py)
    "predict_and_certify": lambda n: (
        n["lower"] < n["upper"]
        and n["of the network, at least"] <= n["upper"] + n["of the mesh, at most"]
        and n["relative error, at most"] < 0.12
    ),
    # upper bounds lie above lower bounds, whatever the network says
    "bound_without_a_solve": lambda n: 1 <= n["upper without a solve / lower, at least"] <= n["at most"] < 1.45,
    # one answer for all preconditioners; 1e-8 of the residual, and the smallest eigenvalue is about (pi h)^2
    "learned_cycle": lambda n: (
        n["iterations, learned cycle"] <= n["iterations, multigrid"] + 1 < n["iterations, none"] / 20
        and n["difference of the answers"] < 1e-5
    ),
    # 90 % less three standard deviations of a share of 150 and of the 150 that calibrate: sqrt(0.09 / 75) = 0.035
    "calibrated_error": lambda n: n["share of new flows below it"] >= 0.9 - 3 * 0.035,
    "make_a_data_set": lambda n: n["largest label error"] < 0.12 and n["largest value on the boundary"] == 0,
    # the mean square of 20 draws scatters by about a third of its bound for so many neurons; a root halves that
    "barron_width": lambda n: (
        n["error / bound at width 1024"] < 1.15 and n["order in the width"] == pytest.approx(0.5, abs=0.05)
    ),
    # certified: the error of the network is smaller than that of the finite elements
    "network_between_nodes": lambda n: (
        n["network, lower bound"] <= n["network, upper bound"] < n["finite elements, lower bound"]
    ),
    # certified: each network is better than the one of half the width
    "greedy_network": lambda n: n["smallest lower bound / upper bound of twice the width"] > 1,
    # the exact minimum lies inside, up to round-off
    "p_laplacian": lambda n: all(
        n[f"lower, q = {q}"] - 1e-12 <= n[f"exact, q = {q}"] <= n[f"upper, q = {q}"] + 1e-12 for q in ("1.5", "2", "4")
    ),
    # noise-free data; the misfit is down to 1e-5
    "inverse_problem": lambda n: n["largest relative error"] < 1e-3 and n["misfit"] < 1e-5,
    "optimal_control": lambda n: (
        n["largest number of steps"] <= 12
        and n["||u - target||, w = 0.01"] > n["||u - target||, w = 0.0001"] > n["||u - target||, w = 1e-06"]
    ),
    # the state does not fit the noise better than it is known, nor worse: within a factor of two
    "coefficient_estimation": lambda n: (
        n["relative error of the estimate"] < 0.5 * n["of the guess"] and 0.5 < n["misfit / noise"] < 2
    ),
    # equilibrium, to the tolerance 1e-8 of the optimality conditions
    "hanging_chain": lambda n: n["change of slope per link"] > 0 and max(n["spread"], n["constraint violation"]) < 1e-7,
    # backward stable up to the growth of a few sqrt(20,000) roundings; the normal equations are not
    "sketched_least_squares": lambda n: (
        n["iterations, most"] <= 40
        and n["error / (condition eps), most"] < 20_000**0.5
        and n["normal equations at condition 1e10"] > 0.1
    ),
    # columns of faces differ by what div u leaves in the 96 columns of cells between them
    "solids_and_pressure": lambda n: n["largest |div u|"] <= 1e-8 and n["spread of the flow rate"] <= 1.5e-8,
    # MacCormack transport stays within the bounds of the source
    "smoke_plume": lambda n: n["largest |div u| dt"] <= 1e-6 and n["largest density"] <= 1,
    # trapezoidal rule, 50 intervals, for an integrand that decays at rates up to 2 nu (2 pi 8)^2 = 5: 5^2 / 12 / 50^2
    "vorticity": lambda n: n["energy lost"] == pytest.approx(n["nu x integral of w^2"], rel=1e-3),
}

#: Those that take more than two seconds.
SLOW = {
    "barron_width", "greedy_network", "inverse_problem", "make_a_data_set", "network_between_nodes", "smoke_plume",
}  # fmt: skip


def test_every_example_has_its_claim():
    assert set(CLAIMS) == set(SCRIPTS)


@pytest.mark.parametrize("name", [pytest.param(s, marks=pytest.mark.slow) if s in SLOW else s for s in SCRIPTS])
def test_example_says_what_is_true(name):
    numbers, figure = runpy.run_path(str(SCRIPTS[name]))["main"]()
    assert figure.axes
    plt.close("all")
    assert CLAIMS[name](numbers), numbers


@pytest.mark.parametrize("name", SCRIPTS)
def test_example_is_short_and_uses_public_names(name):
    text = SCRIPTS[name].read_text()
    assert 15 <= len(text.splitlines()) <= 45
    assert f'savefig("{name}.png")' in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            assert not any("._" in alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert "._" not in f".{node.module}"
            assert not any(alias.name.startswith("_") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
