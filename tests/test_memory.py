from refusals import refused

from sciml_bounds import memory


def test_what_is_available_is_plausible():
    available = memory.available_memory()
    assert available is None or 2**20 < available < 2**60


def test_too_much_is_refused_and_the_rest_is_not(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    memory.require_memory(2**30, "the array")
    refused("array 2 GiB memory 1", memory.require_memory, 2**31, "the array")


def test_a_container_counts(monkeypatch):
    monkeypatch.setattr(memory, "_free_memory", lambda: 100)
    monkeypatch.setattr(memory, "_container_memory", lambda: 30)
    assert memory.available_memory() == 30
    monkeypatch.setattr(memory, "_container_memory", lambda: None)
    assert memory.available_memory() == 100
    monkeypatch.setattr(memory, "_free_memory", lambda: None)
    assert memory.available_memory() is None
    memory.require_memory(2**80, "the array")
