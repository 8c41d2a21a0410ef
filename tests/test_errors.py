"""The exceptions: which built-in classes they are, and that they survive the way to another process."""

import ast
import builtins
import pickle
import warnings
from pathlib import Path

import pytest

import sciml_bounds as sb
from sciml_bounds import errors

ERRORS = {
    "InputError": ValueError,
    "ConvergenceError": RuntimeError,
    "TrainingError": errors.ConvergenceError,  # itself a RuntimeError
    "MissingExtraError": RuntimeError,
}
PACKAGE = Path(sb.__file__).parent


def test_every_exception_is_public_and_one_of_two_built_in_kinds():
    assert set(errors.__all__) == {*ERRORS, "ConvergenceWarning", "InputWarning"} <= {*sb.__all__, *sb.training.__all__}
    for name, kind in ERRORS.items():
        assert getattr(errors, name).__mro__[1] is kind
    for warning in (sb.ConvergenceWarning, sb.InputWarning):
        assert issubclass(warning, UserWarning)  # shown by default, unlike a DeprecationWarning
        assert not issubclass(warning, ValueError | RuntimeError)


def test_no_other_exception_is_defined_in_the_package():
    """A class outside of this module would be one that callers are not told about."""
    known = {name for name, item in vars(builtins).items() if isinstance(item, type) and issubclass(item, Exception)}
    known |= set(errors.__all__)
    places = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & known:
                places[node.name] = path.name
    assert places == dict.fromkeys(errors.__all__, "errors.py")


@pytest.mark.parametrize("name", errors.__all__)
def test_exceptions_are_pickled(name):
    error = getattr(errors, name)("the source is NaN; replace it.")
    error.add_note("in sample 3")
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is type(error)
    assert str(restored) == str(error) == "the source is NaN; replace it."
    assert restored.__notes__ == ["in sample 3"]


@pytest.mark.parametrize("kind", [sb.InputError, ValueError])
def test_wrong_input_is_caught_as_either_class(kind):
    with pytest.raises(kind, match="cell"):
        sb.Grid(1)


def test_work_that_fails_is_no_wrong_input():
    problem = sb.Diffusion(sb.Grid((4, 4)), source=1.0)
    with pytest.raises(RuntimeError, match="maxiter") as caught:
        sb.solve(problem, method="cg", maxiter=1, throw=True)
    assert type(caught.value) is sb.ConvergenceError
    assert not isinstance(caught.value, ValueError)


def test_a_warning_can_be_silenced_by_its_class_alone():
    problem = sb.Diffusion(sb.Grid((4, 4)), source=1.0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", sb.ConvergenceWarning)
        assert not sb.solve(problem, method="cg", maxiter=1).converged
    assert seen == []
