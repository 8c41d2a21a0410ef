import numpy as np
import torch

import sciml_bounds as sb
from sciml_bounds.samples import load_two_phase
from sciml_bounds.samples.make_two_phase import make_two_phase


def test_the_generator_makes_what_ships():
    shipped, made = load_two_phase(), make_two_phase()
    np.testing.assert_array_equal(shipped.x, made.x)
    np.testing.assert_allclose(shipped.y, made.y, rtol=2e-7)  # one round-off of float32: scipy's LU may differ
    assert shipped.x.dtype == np.bool_
    assert shipped.y.dtype == np.float32


def test_the_answers_solve_the_problem():
    """Stored answers, brought to our level, approach our solution on a fine grid as 16 cells an axis can: to 5 %."""
    x, y = load_two_phase()
    coefficient = torch.from_numpy(np.where(x, 12.0, 3.0)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    problem = sb.Diffusion(sb.Grid((128, 128)), coefficient, source=1.0)
    u = sb.solve(problem).values[:, 4::8, 4::8]  # the nodes at the centres of the 16 x 16 cells
    answers = torch.from_numpy(y).double()
    scale = (answers * u).sum((1, 2), keepdim=True) / (answers**2).sum((1, 2), keepdim=True)
    error = (scale * answers - u).flatten(1).norm(dim=1) / u.flatten(1).norm(dim=1)
    assert float(error.max()) < 0.05
    assert float(error.min()) > 1e-4
