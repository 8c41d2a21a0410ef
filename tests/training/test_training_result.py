"""A result prints as a short table and draws itself."""

from sciml_bounds.training._trainer import train


def test_it_prints_what_was_reached_and_why_it_ended(make, data, tmp_path):
    result = train(make(), *data, folder=tmp_path, loss="l2", epochs=2, batch_size=4)
    lines = repr(result).splitlines()
    assert 5 < len(lines) <= 12
    for words in ("Smoother, 22 parameters", "all epochs done", "2 of 2", "validation l2", str(tmp_path.name)):
        assert words in repr(result)


def test_it_draws_its_history(make, data):
    with_validation = train(make(), *data, loss="l2", epochs=3, batch_size=4).plot()
    curves = with_validation.axes[0].get_lines()
    assert [len(curve.get_xdata()) for curve in curves] == [3, 3, 1]
    without = train(make(), data[0], None, loss="l2", epochs=3, batch_size=4).plot()
    assert len(without.axes[0].get_lines()) == 1
