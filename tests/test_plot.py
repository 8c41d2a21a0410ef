import io
import itertools
import re

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from refusals import refused

import sciml_bounds as sb
from sciml_bounds import plot


@pytest.fixture
def axes():
    return plot.new_figure(3, 3).subplots()


def image_of(axes, grid, field, **options) -> np.ndarray:
    image = plot.draw_field(axes, grid, field, "title", "viridis", **options)
    assert image is not None
    return np.asarray(image.get_array())


def test_x_runs_to_the_right_and_y_upwards(axes):
    grid = sb.Grid((3, 2), lengths=(6.0, 1.0), origin=(1.0, -1.0))
    field = torch.arange(6.0).reshape(3, 2)  # field[i, j] = 2 i + j
    np.testing.assert_array_equal(image_of(axes, grid, field, nodal=False), [[1, 3, 5], [0, 2, 4]])  # top row is y1
    assert (axes.get_xlim(), axes.get_ylim()) == ((1.0, 7.0), (-1.0, 0.0))


@pytest.mark.parametrize("periodic", [False, True])
def test_a_node_is_drawn_around_its_place(axes, periodic):
    """The pixel of node k is [k - 1/2, k + 1/2] spacings, also on a periodic axis without a last node."""
    grid = sb.Grid((4, 4))
    image = plot.draw_field(axes, grid, torch.zeros(4 if periodic else 5, 5), "", "viridis", nodal=True)
    assert image is not None
    right = 0.875 if periodic else 1.125
    assert image.get_extent() == [-0.125, right, -0.125, 1.125]
    assert axes.get_xlim() == (0.0, 1.0)


def test_samples_and_fields_without_batch(axes):
    grid = sb.Grid((2, 2))
    field = torch.arange(2.0).view(2, 1, 1).expand(2, 2, 2)
    assert (image_of(axes, grid, field, nodal=False, sample=1) == 1).all()
    assert (image_of(axes, grid, field[0], nodal=False, sample=1) == 0).all()


def test_three_dimensions_show_the_middle_slice(axes):
    grid = sb.Grid((2, 3, 5))
    field = torch.arange(5.0).expand(2, 3, 5)
    assert (image_of(axes, grid, field, nodal=False) == 2).all()
    assert "middle slice in z" in axes.get_title()


@pytest.mark.parametrize(("cells", "nodal", "middle"), [(4, False, 1.5), (4, True, 2.0), (5, True, 2.5)])
def test_the_middle_slice_is_in_the_middle(axes, cells, nodal, middle):
    grid, more = sb.Grid((2, 3, cells)), int(nodal)
    field = torch.arange(float(cells + more)).expand(2 + more, 3 + more, -1)
    assert (image_of(axes, grid, field, nodal=nodal) == middle).all()


def test_one_dimension_is_a_line(axes):
    grid = sb.Grid(4, origin=1.0)
    assert plot.draw_field(axes, grid, torch.arange(5.0), "", "viridis", nodal=True) is None
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 1.25, 1.5, 1.75, 2])
    plot.draw_field(axes, grid, torch.arange(4.0), "", "viridis", nodal=False)
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [1.125, 1.375, 1.625, 1.875])


def test_indicator_colours():
    norm = plot.indicator_colours(torch.tensor([0.0, 1e-9, 2.0]))
    assert norm is not None
    assert (norm.vmin, norm.vmax) == (2e-3, 2.0)
    assert float(norm(0.0)) == 0.0  # clipped, not masked
    assert plot.indicator_colours(torch.zeros(3)) is None


@pytest.mark.parametrize("shape", [(6,), (6, 4), (4, 3, 4)])
@pytest.mark.parametrize("certify", [False, True])
def test_results_plot_themselves(shape, certify):
    coefficient = torch.tensor([1.0, 5.0]).view(2, *(1,) * len(shape)).expand(2, *shape)
    solution = sb.solve(sb.Diffusion(sb.Grid(shape), coefficient, source=1.0), certify=certify)
    figures = [solution.plot(sample=1)]
    if solution.certificate is not None:
        figures.append(solution.certificate.plot(sample=1))
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        buffer.seek(0)
        assert imread(buffer).std() > 0
    titles = [axes.get_title().split(" (")[0] for axes in figures[0].axes if axes.get_title()]
    assert titles == ["coefficient a", "solution u"] + ["error indicator"] * certify


@pytest.mark.parametrize("last", [0.0201, 0.034, 0.095, 0.17, 1.5, 40.0])
def test_labels_of_times_do_not_overlap(last):
    times = np.linspace(0.02, last, 9)
    figure = plot.plot_convergence({"pyamg:smoothed-aggregation": [(t, 10.0**-i) for i, t in enumerate(times)]}, 1e-8)
    figure.draw_without_rendering()
    axis = figure.axes[1].xaxis
    low, high = axis.get_view_interval()
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    labels = [t.label1 for t in ticks if low <= t.get_loc() <= high and t.label1.get_text()]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    assert len(boxes) > 1
    assert all(left.x1 + left.height < right.x0 for left, right in itertools.pairwise(boxes))


def test_a_certificate_shows_its_numbers_rounded_outwards():
    coefficient = torch.tensor([1.0, 5.0], dtype=torch.float64).view(2, 1, 1).expand(2, 6, 4)
    certificate = sb.solve(sb.Diffusion(sb.Grid((6, 4)), coefficient, source=1.0), certify=True).certificate
    for sample in (0, 1):
        words = re.fullmatch(
            r"(\S+) <= error <= (\S+), relative <= (\S+) \(bound\)", certificate.plot(sample=sample).get_suptitle()
        )
        lower, upper, relative = map(float, words.groups())
        # Four digits are shown.
        assert lower <= certificate.lower[sample] <= 1.001 * lower
        assert 0.999 * upper <= certificate.upper[sample] <= upper
        assert 0.999 * relative <= certificate.relative_upper[sample] <= relative
    one = sb.certify(sb.Diffusion(sb.Grid((6, 4)), 1.0, 1.0), torch.zeros(7, 5))
    assert one.plot().get_suptitle().endswith("relative <= inf (bound)")


def test_a_sample_that_is_not_there_is_refused():
    problem = sb.Diffusion(sb.Grid((3, 3)), torch.ones(2, 3, 3, dtype=torch.float64), 1.0)
    solution = sb.solve(problem, certify=True)
    for result in (solution, solution.certificate):
        refused("2", result.plot, sample=2)
        refused("-1", result.plot, sample=-1)


def test_an_exact_field_has_a_plot():
    """Indicators that are all zero are not drawn on a logarithmic scale."""
    grid = sb.Grid((3, 3))
    sides = {"x0": sb.Dirichlet(0.0), "x1": sb.Dirichlet(0.0), "y0": sb.Neumann(0.0), "y1": sb.Neumann(0.0)}
    certificate = sb.certify(sb.Diffusion(grid, boundary=sides), torch.zeros(4, 4))
    assert float(certificate.upper) == 0
    certificate.plot().savefig(io.BytesIO(), format="png")
