"""A graph replays what the steps compute."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sciml_bounds.training._graphs import GraphedStep
from sciml_bounds.training._trainer import train


@pytest.mark.gpu
def test_graphs_change_nothing(make, data):
    """Ten samples in batches of four: the last batch has another shape and goes without the graph."""
    options = {"loss": "l2", "epochs": 4, "batch_size": 4, "lr": 1e-2, "device": "cuda"}
    plain, graphed = make(), make()
    first = train(plain, *data, **options)
    second = train(graphed, *data, graphs=True, **options)
    for ours, theirs in zip(graphed.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert second.best == pytest.approx(first.best, rel=1e-4)


class Replayed:
    """What a CUDA graph does to memory, on the CPU: the same work on the same tensors, into the same tensors."""

    def __init__(self):
        self.replays = 0
        self.work = lambda: None  # nothing has changed since the capture

    def replay(self):
        self.replays += 1
        self.work()


@pytest.fixture
def no_device(monkeypatch):
    graphs = []

    @contextlib.contextmanager
    def capture(graph):
        graphs.append(graph)
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda other: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Replayed)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    return graphs


def test_gradients_go_where_the_graph_writes_them(no_device):
    """Batches of the captured shape are replayed, others computed; no gradient is added to one before."""
    weight = nn.Parameter(torch.tensor([2.0]))

    def step(x, y):
        loss = (weight * x - y).square().sum()
        loss.backward()
        return loss.detach()

    graphed = GraphedStep(step, [weight])
    for i, count in enumerate([3, 3, 2, 3, 1, 3]):
        x, y = torch.randn(count), torch.randn(count)
        if i == 1:  # after the capture: the stand-in learns what was captured

            def work():
                before, weight.grad = weight.grad, None
                graphed._loss.copy_(step(graphed._x, graphed._y))
                graphed._gradients[0].copy_(weight.grad)
                weight.grad = before

            no_device[0].work = work
        loss = graphed(x, y)
        assert loss.item() == pytest.approx((2 * x - y).square().sum().item(), rel=1e-5)
        assert weight.grad.item() == pytest.approx((2 * x * (2 * x - y)).sum().item(), rel=1e-4)
    assert len(no_device) == 1
    assert no_device[0].replays == 4
