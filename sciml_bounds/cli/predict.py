"""`sciml-bounds predict`: apply a network to a problem from files, with an error bound on request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sciml_bounds.cli import _output as output
from sciml_bounds.cli import _problem as problem_options
from sciml_bounds.cli._trained_at import warn_about_resolution
from sciml_bounds.errors import InputError

if TYPE_CHECKING:
    import xarray
    from torch import Tensor

    import sciml_bounds as sb

__all__ = ["predict"]


def predict(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .safetensors file, or a name: darcy-rough.")],
    coefficient: problem_options.CoefficientOption,
    source: problem_options.SourceOption = None,
    reaction: problem_options.ReactionOption = None,
    solid: problem_options.SolidOption = None,
    shape: problem_options.ShapeOption = None,
    lengths: problem_options.LengthsOption = None,
    origin: problem_options.OriginOption = None,
    boundary: problem_options.BoundaryOption = None,
    sample: problem_options.SampleOption = None,
    network_class: output.ClassOption = None,
    device: Annotated[str, typer.Option(help="Device of the network: cpu, cuda or cuda:1.")] = "cpu",
    certify: Annotated[bool, typer.Option("--certify", help="Bound the error of the prediction.")] = False,
    target: Annotated[
        float | None,
        typer.Option(help="Exit with code 3 if the guaranteed relative energy error is larger.", show_default=False),
    ] = None,
    out: output.OutOption = None,
    plot: output.PlotOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Predict the solution of -div(a grad u) + c u = f by a trained network.

    The network assumes that everything except its inputs (such as source, box, boundary conditions and resolution) is
    as in its training. If it is not, the prediction is wrong; --certify bounds the error.

    Example: sciml-bounds predict darcy-rough --coefficient a.npy --source 1 --certify --out u.nc
    """
    import sciml_bounds as sb
    from sciml_bounds.store.datasets.weights import find_weights, read_weights

    output.check_targets(out, plot, "Certificate" if certify else "Dataset")
    if target is not None and not (certify and target > 0):
        raise InputError(
            "--target, the largest guaranteed relative energy error to accept, must be positive and needs --certify."
        )
    if out is None and plot is None and not certify and not as_json:
        raise InputError("the prediction would not be saved or shown; give --out, --plot or --certify.")
    network = _network(model, device, network_class)
    options = problem_options.ProblemOptions(
        coefficient, source, reaction, solid, shape, lengths, origin, boundary, sample
    )
    problem = problem_options.build_problem(options, certified=certify, any_axes=_axes(network) is not None)
    if shape is None:
        _check_axes(network, problem)
    card = read_weights(find_weights(model))[1]
    warn_about_resolution(model, card, problem.grid.shape)
    start = time.perf_counter()
    values, flux = _predicted(network, problem, card, with_flux=certify)
    seconds = time.perf_counter() - start
    rows = {
        "grid": output.grid_row(problem.grid, tuple(problem.batch_shape)),
        "network": f"{type(network).__name__}, {model}",
    }
    rows["seconds"] = f"{seconds:.3g}"
    record = {"command": "predict", **output.problem_record(problem), "model": model, "seconds": seconds}
    asked = {"command": "predict", **context.params}
    if not certify:
        record["certificate"] = None
        files = _write(problem, values, asked, out, plot)
        output.print_json(record | files) if as_json else output.print_table("Prediction", rows | files)
        return
    # with a predicted flux, no equation has to be solved
    certificate = sb.certify(problem, values, flux=flux, lower=flux is None)
    rows |= output.certificate_rows(certificate)
    record["certificate"] = output.certificate_record(certificate)
    failure = None if target is None else output.target_failure(certificate, target)
    output.finish("Prediction", rows, record, certificate, asked, out=out, plot=plot, as_json=as_json, failure=failure)


def _network(name: str, device: str, network_class: str | None) -> Any:
    """Load a network for diffusion problems."""
    from sciml_bounds.krylov._learned_directions import LearnedDirections
    from sciml_bounds.store.datasets.weights import load_model
    from sciml_bounds.training._settings import TrainingSettings

    chosen = TrainingSettings(device=device).device
    network = load_model(name, device=chosen, network=output.named_class(network_class))
    if isinstance(network, LearnedDirections):
        raise InputError(
            f"{name} contains a {type(network).__name__}, which cannot predict solutions of diffusion problems; give a "
            "network such as darcy-rough."
        )
    return network


def _predicted(network: Any, problem: sb.Diffusion, card: Mapping[str, Any], *, with_flux: bool) -> tuple[Any, Any]:
    """Predict by the method of the network; if it has none, from the inputs of its training data."""
    import sciml_bounds as sb
    from sciml_bounds.bounds._predictions import is_model, prediction_of

    if is_model(network):
        return prediction_of(network, problem, with_flux=with_flux)
    data = card.get("data")
    trained = data.get("train", {}) if isinstance(data, Mapping) else {}
    inputs = None if hasattr(network, "fields") else trained.get("inputs")
    return sb.training.predict(network, problem, fields=inputs), None


def _axes(network: Any) -> int | None:
    """Return the number of axes of the grids of a network, if it is known."""
    from sciml_bounds.multigrid._flux_head import CertifiedNetwork

    axes: int | None = 2 if isinstance(network, CertifiedNetwork) else getattr(network, "dim", None)
    return axes


def _check_axes(network: Any, problem: sb.Diffusion) -> None:
    """Raise if the grid has one axis more than the network, which suggests that the first axis is a batch."""
    wanted = _axes(network)
    if wanted is not None and problem.grid.dim == wanted + 1:
        raise InputError(
            f"the problem has {problem.grid.dim} axes, but the network is for {wanted}; if the first axis is a batch, "
            f"give --shape {','.join(map(str, problem.grid.shape[1:]))}."
        )


def _write(
    problem: sb.Diffusion, values: Tensor, asked: dict[str, Any], out: Path | None, plot: Path | None
) -> dict[str, str]:
    """Write a prediction without a certificate."""
    from sciml_bounds.plot import plot_solution
    from sciml_bounds.store.datasets.saved_results import write
    from sciml_bounds.store.safety.writer import replacing

    if out is not None:
        write(_labelled(problem, values), out, parameters=asked)
    if plot is not None:
        batch = values.shape[: values.ndim - problem.grid.dim]
        figure = plot_solution(problem.grid, problem.coefficient[0].expand(*batch, *problem.grid.shape), values, None)
        with replacing(plot) as part:
            figure.savefig(part, format=plot.suffix[1:].lower())
    return {name: str(path) for name, path in (("out", out), ("plot", plot)) if path is not None}


def _labelled(problem: sb.Diffusion, values: Tensor) -> xarray.Dataset:
    """Return a prediction as a dataset with named axes."""
    import xarray

    from sciml_bounds.grid import AXES

    grid = problem.grid
    batch = [f"batch{i}" if i else "sample" for i in range(values.ndim - grid.dim)]
    space = [f"{axis}_node" for axis in AXES[: grid.dim]]
    nodes = {
        name: (name, grid.nodes(i)[: problem.node_shape[i]].numpy(), {"units": "1"}) for i, name in enumerate(space)
    }
    attributes = {"long_name": "predicted solution u", "units": "1"}
    return xarray.Dataset({"prediction": ([*batch, *space], values.cpu().numpy(), attributes)}, nodes)
