"""Constrained logistic regression: Newton's method with exact, sampled and sketched Hessians, beside scipy and IPOPT.

    python benchmarks/logistic.py [--data breast-cancer digits 1000x60 11055x68 32561x123 49749x300] [--tol 1e-4]

The problem of Hong, Na, Mahoney and Kolar (ICML 2023): the mean of log(1 + exp(-y_i z_i.x)) is to fall where C x = d,
with ten random rows, and ||x|| = 1. Data are sets that scikit-learn brings along (left out where it is not installed),
with labels -1 and 1 and features of unit variance, and drawn ones, N x n, of the sizes of the paper. Every method is
given the same functions and starts at ones; each has its own rule to stop at --tol. KKT is, for all, the norm of
(grad f + J^T l, c) with the multipliers that fit best. IPOPT is left out where cyipopt is not installed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

import sciml_bounds as sb
from sciml_bounds.sketching._sampled_hessians import SampledHessian, SketchedHessian
from sciml_bounds.sketching._sketches.sparse_sign import SparseSign

try:
    import cyipopt
except ImportError:
    cyipopt = None

#: Linear constraints, of the paper.
ROWS = 10

#: Largest N n^2 for which torch differentiates twice: it takes n passes backward over all samples.
AUTODIFF = 1e8

#: The drawn sets, named as they are in the paper: sonar, splice, phishing, a9a, w8a.
DRAWN = ("1000x60", "11055x68", "32561x123", "49749x300")


def drawn(samples: int, features: int) -> tuple[Tensor, Tensor]:
    """Draw z of normal numbers, and y with the probabilities of a logistic model."""
    generator = torch.Generator().manual_seed(samples)
    z = torch.randn((samples, features), generator=generator, dtype=torch.float64)
    truth = torch.randn(features, generator=generator, dtype=torch.float64)
    chances = torch.sigmoid(z @ (3 * truth / truth.norm()))
    return z, torch.where(torch.rand(samples, generator=generator) < chances, 1.0, -1.0).double()


def shipped(name: str) -> tuple[Tensor, Tensor] | None:
    """Load a set of scikit-learn, with what does not vary left out; None where it is not installed."""
    try:
        from sklearn import datasets
    except ImportError:
        return None
    found = datasets.load_breast_cancer() if name == "breast-cancer" else datasets.load_digits()
    z, labels = torch.from_numpy(found.data).double(), torch.from_numpy(found.target)
    if name == "digits":
        z, labels = z[labels < 2], labels[labels < 2]  # zeros and ones
    z = z[:, z.std(0) > 0]
    return (z - z.mean(0)) / z.std(0), torch.where(labels == 1, 1.0, -1.0).double()


class Logistic:
    """The problem: functions of torch, with derivatives by hand."""

    def __init__(self, z: Tensor, y: Tensor) -> None:
        self.yz = y.unsqueeze(1) * z
        self.samples, self.n = z.shape
        generator = torch.Generator().manual_seed(1)
        self.C = torch.randn((ROWS, self.n), generator=generator, dtype=torch.float64)
        self.d = torch.randn(ROWS, generator=generator, dtype=torch.float64)
        self.start = torch.ones(self.n, dtype=torch.float64)

    def mean(self, x: Tensor, terms: Any = slice(None)) -> Tensor:
        """Return the mean loss of some samples."""
        return torch.nn.functional.softplus(-(self.yz[terms] @ x)).mean()

    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of the mean loss of all."""
        return -(self.yz.mT @ torch.sigmoid(-(self.yz @ x))) / self.samples

    def root(self, x: Tensor, terms: Any = slice(None)) -> Tensor:
        """Return F with F^T F the Hessian of the mean loss of some samples."""
        rows = self.yz[terms]
        p = torch.sigmoid(rows @ x)
        return (p * (1 - p) / len(rows)).sqrt().unsqueeze(1) * rows

    def hessian(self, x: Tensor, terms: Any = slice(None)) -> Tensor:
        """Return the Hessian of the mean loss of some samples."""
        F = self.root(x, terms)
        return F.mT @ F

    def constraints(self, x: Tensor) -> Tensor:
        """Return what is to be zero."""
        return torch.cat([self.C @ x - self.d, (x @ x - 1).view(1)])

    def jacobian(self, x: Tensor) -> Tensor:
        """Return the Jacobian of the constraints."""
        return torch.cat([self.C, 2 * x.unsqueeze(0)])

    def kkt(self, x: Tensor) -> float:
        """Return the KKT residual with the multipliers that fit best."""
        g, G = self.gradient(x), self.jacobian(x)
        l = torch.linalg.lstsq(G.mT, -g.unsqueeze(1)).solution.squeeze(1)
        return float(torch.cat([g + G.mT @ l, self.constraints(x)]).norm())


@dataclass(frozen=True)
class Run:
    """What one method found."""

    x: Tensor
    iterations: int
    gradients: int


# --- methods ----------------------------------------------------------------------------------------------------------


def ours(hess: Callable[[Logistic], Any] | None, method: str = "auto") -> Callable[[Logistic, float], Run]:
    def run(problem: Logistic, tol: float) -> Run:
        given = {} if hess is None else {"jac": problem.gradient, "hess": hess(problem)}
        r = sb.minimize(problem.mean, problem.start, constraints=problem.constraints, method=method, atol=tol, **given)
        return Run(r.x, r.nit, r.njev)

    return run


def of_numpy(function: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], Any]:
    return lambda x: function(torch.from_numpy(np.ascontiguousarray(x))).numpy()


def scipys(method: str) -> Callable[[Logistic, float], Run]:
    def run(problem: Logistic, tol: float) -> Run:
        exact = method == "trust-constr"
        curved = {"hess": lambda x, v: 2 * v[-1] * np.eye(problem.n)} if exact else {}
        constraint = scipy.optimize.NonlinearConstraint(
            of_numpy(problem.constraints), 0.0, 0.0, jac=of_numpy(problem.jacobian), **curved
        )
        options = {"maxiter": 1000, "gtol": tol, "xtol": 1e-12} if exact else {"maxiter": 1000, "ftol": tol**2}
        r = scipy.optimize.minimize(
            of_numpy(problem.mean), problem.start.numpy(), jac=of_numpy(problem.gradient), method=method,
            hess=of_numpy(problem.hessian) if exact else None, constraints=constraint, options=options,
        )  # fmt: skip
        return Run(torch.from_numpy(r.x), r.nit, r.njev)

    return run


def ipopt(problem: Logistic, tol: float) -> Run:
    lower = np.tril_indices(problem.n)
    count = {"gradients": 0, "iterations": 0}

    class Callbacks:
        objective, constraints, jacobian = (
            of_numpy(f) for f in (problem.mean, problem.constraints, problem.jacobian)
        )  # fmt: skip

        def gradient(self, x: np.ndarray) -> np.ndarray:
            count["gradients"] += 1
            return of_numpy(problem.gradient)(x)

        def hessianstructure(self) -> tuple[np.ndarray, np.ndarray]:
            return lower

        def hessian(self, x: np.ndarray, multipliers: np.ndarray, factor: float) -> np.ndarray:
            H = factor * of_numpy(problem.hessian)(x) + 2 * multipliers[-1] * np.eye(problem.n)
            return H[lower]

        def intermediate(self, *state: Any) -> bool:
            count["iterations"] = state[1]
            return True

    callbacks = Callbacks()
    for name in ("objective", "constraints", "jacobian"):
        setattr(callbacks, name, getattr(Callbacks, name))  # functions of x alone, not methods
    zeros = np.zeros(ROWS + 1)
    solver = cyipopt.Problem(n=problem.n, m=ROWS + 1, problem_obj=callbacks, cl=zeros, cu=zeros)
    for name, value in (("tol", tol), ("print_level", 0), ("sb", "yes"), ("nlp_scaling_method", "none")):
        solver.add_option(name, value)
    x, _ = solver.solve(problem.start.numpy())
    return Run(torch.from_numpy(x), count["iterations"], count["gradients"])


def sampled(problem: Logistic) -> SampledHessian:
    return SampledHessian(problem.mean, problem.samples, min(problem.samples, 20 * problem.n), hess=problem.hessian)


def sketched(problem: Logistic) -> SketchedHessian:
    return SketchedHessian(problem.root, SparseSign(20 * problem.n, 2))


METHODS: dict[str, Callable[[Logistic, float], Run]] = {
    "ours, by autodiff": ours(None),
    "ours, exact Hessian": ours(lambda problem: problem.hessian),
    "ours, published method": ours(lambda problem: problem.hessian, "sketched"),
    "ours, sampled Hessian": ours(sampled),
    "ours, sketched Hessian": ours(sketched),
    "scipy SLSQP": scipys("SLSQP"),
    "scipy trust-constr": scipys("trust-constr"),
    "IPOPT": ipopt,
}


def compare(name: str, problem: Logistic, methods: list[str], tol: float) -> None:
    print(f"\n{name}: {problem.samples} samples, {problem.n} features, {ROWS + 1} constraints")
    print(f"  {'method':24} {'seconds':>9} {'iterations':>11} {'gradients':>10} {'objective':>14} {'KKT':>9}")
    seconds: dict[str, float] = {}
    for method in methods:
        if method == "ours, by autodiff" and problem.samples * problem.n**2 > AUTODIFF:
            print(f"  {method:24} left out: minutes")
            continue
        start = time.perf_counter()
        run = METHODS[method](problem, tol)
        seconds[method] = time.perf_counter() - start
        figures = f"{seconds[method]:9.3f} {run.iterations:11d} {run.gradients:10d}"
        print(f"  {method:24} {figures} {float(problem.mean(run.x)):14.8f} {problem.kkt(run.x):9.1e}", flush=True)
    exact = seconds.get("ours, exact Hessian")
    if exact is not None:
        ratios = ", ".join(f"{method} {taken / exact:.2f}" for method, taken in seconds.items())
        print(f"  times beside the exact Hessian: {ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["breast-cancer", "digits", *DRAWN], help="names, or N x n as Nxn")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--tol", type=float, default=1e-4, help="of the KKT residual (default: the paper's)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", sb.ConvergenceWarning)  # what is not reached stands in the table
    methods = [name for name in options.methods if name != "IPOPT" or cyipopt is not None]
    print(
        f"{options.threads} thread(s), torch {torch.__version__}, scipy {scipy.__version__}, tolerance {options.tol:g}"
    )
    if cyipopt is None:
        print("IPOPT is left out: cyipopt is not installed (pip install cyipopt-wheels)")
    for name in options.data:
        size = name.split("x")
        data = drawn(int(size[0]), int(size[1])) if size[0].isdigit() else shipped(name)
        if data is None:
            print(f"\n{name} is left out: scikit-learn is not installed (pip install scikit-learn)")
        else:
            compare(name, Logistic(*data), methods, options.tol)


if __name__ == "__main__":
    main()
