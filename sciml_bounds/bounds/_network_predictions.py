"""Predictions of torch networks for diffusion problems, as nodal fields that can be certified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from sciml_bounds.bounds._layouts import Layout, layout_shape, to_nodes
from sciml_bounds.bounds._predictions import is_model, prediction_of
from sciml_bounds.errors import InputError
from sciml_bounds.krylov._learned_directions import LearnedDirections
from sciml_bounds.nn.evaluation_mode import evaluating, weights_like
from sciml_bounds.problems.diffusion import Diffusion
from sciml_bounds.problems.problem_records import CELL_FIELDS

__all__ = ["nodal_prediction", "predict"]

#: Number of samples per forward pass.
PREDICT_BATCH_SIZE = 64


def predict(model: nn.Module, problem: Diffusion, *, fields: Sequence[str] | None = None) -> Tensor:
    """Predict the nodal values of the solution of a problem by a network.

    Parameters
    ----------
    model : torch.nn.Module
        A network with a method `predict(problem)`, or any network that maps cell fields (b, channel, cells) to one
        channel of values at all nodes, at the nodes that are not on Dirichlet sides, or in the cells.
    problem : Diffusion
        The problem, or a batch of problems.
    fields : sequence of str, optional
        Fields of the problem that are the input channels, in order: "coefficient", "source", "reaction", "solid". By
        default the attribute `fields` of the network, or the coefficient only if there is no such attribute.

    Returns
    -------
    Tensor
        Values at the nodes, shape (batch..., nodes), in float64, with the prescribed values on Dirichlet sides. Cell
        values are averaged to the nodes. All data that are not input channels are assumed to be as in the training
        data; `sb.certify` bounds the error of the prediction.

    Raises
    ------
    InputError
        If a field is unknown, or the network does not accept its input or predicts another shape.

    Examples
    --------
    >>> import torch
    >>> import sciml_bounds as sb
    >>> net = torch.nn.Conv2d(1, 1, 3, padding=1)
    >>> problem = sb.Diffusion(sb.Grid((8, 8)), coefficient=2.0, source=1.0)
    >>> values = sb.training.predict(net, problem)
    >>> values.shape, bool(sb.certify(problem, values).upper > 0)
    (torch.Size([9, 9]), True)
    """
    if isinstance(model, LearnedDirections):
        raise InputError(
            f"a {type(model).__name__} predicts search directions, not solutions; give the network to sb.cg as M."
        )
    if is_model(model) and fields is None:
        values: Tensor = prediction_of(model, problem, with_flux=False).values
        return values
    exact = problem.detach().to(torch.float64)
    names: Any = getattr(model, "fields", ("coefficient",)) if fields is None else fields
    x = _inputs(exact, tuple(names))
    weight = weights_like(model, torch.zeros(()))
    with evaluating(model):
        parts = [_forward(model, part) for part in x.to(weight).split(PREDICT_BATCH_SIZE)]
    output = torch.cat(parts).to(dtype=torch.float64, device=exact.device)
    return nodal_prediction(exact, output.reshape(*exact.batch_shape, *output.shape[1:]))


def _inputs(problem: Diffusion, fields: tuple[str, ...]) -> Tensor:
    """Return the input channels, shape (b, channel, cells)."""
    unknown = [name for name in fields if name not in CELL_FIELDS]
    if unknown or not fields:
        raise InputError(
            f"fields={list(fields)} are not all fields of the problem; choose from {', '.join(CELL_FIELDS)}."
        )
    if "coefficient" in fields and not problem.has_scalar_coefficient:
        raise InputError(
            "the network takes a scalar coefficient, but the coefficient of the problem differs between the axes; "
            "give a problem with a scalar coefficient."
        )
    cells = (*problem.batch_shape, *problem.grid.shape)
    parts = [problem.coefficient[0] if name == "coefficient" else getattr(problem, name) for name in fields]
    parts = [torch.zeros(()) if part is None else part for part in parts]  # no solids
    return torch.stack([part.double().expand(cells).reshape(-1, *problem.grid.shape) for part in parts], 1)


def _forward(model: nn.Module, x: Tensor) -> Tensor:
    try:
        output: Any = model(x)
    except RuntimeError as error:
        why = (str(error).splitlines() or ["without a message"])[0].rstrip(".")
        raise InputError(
            f"the {type(model).__name__} does not accept an input of shape {tuple(x.shape)} ({why}); name the input "
            "channels by the attribute fields of the network or by fields=[...]."
        ) from None
    if not isinstance(output, Tensor) or output.shape[:2] != (len(x), 1):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"the {type(model).__name__} maps shape {tuple(x.shape)} to {found}; give a network with one output "
            f"channel, shape ({len(x)}, 1, *space)."
        )
    return output


def nodal_prediction(problem: Diffusion, output: Tensor) -> Tensor:
    """Return the output of a network as nodal values with the prescribed values on Dirichlet sides.

    Parameters
    ----------
    problem : Diffusion
        The problem or problems.
    output : Tensor, shape (batch..., 1, space)
        Values at the nodes, at the interior nodes or in the cells.

    Raises
    ------
    InputError
        If the output has none of these shapes.
    """
    values = output.squeeze(-problem.grid.dim - 1)
    space = tuple(values.shape[values.ndim - problem.grid.dim :])
    layouts: tuple[Layout, ...] = get_args(Layout)[:3]
    fitting = [layout for layout in layouts if space == layout_shape(problem, layout)]
    if not fitting:
        shapes = ", ".join(f"{layout} {layout_shape(problem, layout)}" for layout in layouts)
        raise InputError(
            f"the network predicts shape {space}, but fields of this problem have the shapes {shapes}; use a network "
            "or a grid with one of these shapes."
        )
    nodes = to_nodes(problem, values, "nodes" if "nodes" in fitting else fitting[0])
    return problem.impose_boundary(nodes)
