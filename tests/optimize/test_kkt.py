"""Dense and sparse matrices are the same ones."""

from __future__ import annotations

import itertools

import pytest
import scipy.sparse
import torch

from sciml_bounds.operators._linear_operator import csr_tensor
from sciml_bounds.optimize._kkt import added, frobenius, identity, is_sparse, kkt_matrix, scipy_matrix, shifted, stacked

H = torch.tensor([[2.0, 1.0, 0.0], [1.0, -3.0, 0.5], [0.0, 0.5, 0.0]], dtype=torch.float64)
G = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]], dtype=torch.float64)


def sparse(matrix):
    return csr_tensor(scipy.sparse.csr_array(matrix.numpy()))


FORMS = list(itertools.product([torch.Tensor.clone, sparse], repeat=2))


@pytest.mark.parametrize("forms", FORMS, ids=["dd", "ds", "sd", "ss"])
@pytest.mark.parametrize("damping", [0.0, 0.25])
def test_kkt_matrix_is_that_of_its_blocks(forms, damping):
    A = kkt_matrix(forms[0](H), forms[1](G), damping)
    expected = torch.zeros((5, 5), dtype=torch.float64)
    expected[:3, :3], expected[3:, :3], expected[:3, 3:] = H, G, G.T
    expected[3:, 3:] = -damping * torch.eye(2)
    assert torch.equal(A.to_dense(), expected)
    assert is_sparse(A) == (forms != (torch.Tensor.clone, torch.Tensor.clone))


@pytest.mark.parametrize("form", [torch.Tensor.clone, sparse], ids=["dense", "sparse"])
def test_without_constraints_it_is_the_hessian(form):
    assert torch.equal(kkt_matrix(form(H), H.new_zeros(0, 3)).to_dense(), H)


@pytest.mark.parametrize("forms", FORMS, ids=["dd", "ds", "sd", "ss"])
def test_sums_and_stacks(forms):
    first, second = forms[0](H), forms[1](H)
    assert torch.equal(added(first, second).to_dense(), 2 * H)
    assert torch.equal(stacked([first, second], H[0]).to_dense(), torch.cat([H, H]))
    assert stacked([], H[0]).shape == (0, 3)


@pytest.mark.parametrize("form", [torch.Tensor.clone, sparse], ids=["dense", "sparse"])
def test_shifts_and_norms(form):
    matrix = form(H)
    assert torch.equal(shifted(matrix, 0.5).to_dense(), H + 0.5 * torch.eye(3))
    assert shifted(matrix, 0.0) is matrix
    assert torch.equal(identity(matrix, 2.0).to_dense(), 2 * torch.eye(3, dtype=torch.float64))
    assert is_sparse(identity(matrix)) == is_sparse(matrix)
    assert frobenius(matrix) == pytest.approx(float(H.square().sum()) ** 0.5)
    assert (scipy_matrix(matrix).toarray() == H.numpy()).all()
