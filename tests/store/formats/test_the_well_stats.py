import numpy as np
import pytest

from sciml_bounds.store.formats.the_well_stats import FieldStatistics, format_statistics


def test_one_pass_gives_what_all_numbers_together_give():
    fields = 100 + np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)
    statistics = FieldStatistics()
    for field in fields:
        statistics.add(field, frames=True)
    table, values = statistics.to_dict(), fields.astype(np.float64)
    changes = np.diff(values, axis=1)
    for suffix, numbers in (("", values), ("_delta", changes)):
        assert table[f"mean{suffix}"] == pytest.approx(numbers.mean(), rel=1e-13)
        assert table[f"std{suffix}"] == pytest.approx(numbers.std(), rel=1e-12)
        assert table[f"rms{suffix}"] == pytest.approx(np.sqrt((numbers**2).mean()), rel=1e-13)


def test_one_frame_has_no_changes_but_statistics_of_its_own():
    statistics = FieldStatistics()
    statistics.add(np.array([[1.0, 3.0]]), frames=True)
    table = statistics.to_dict()
    assert (table["mean_delta"], table["std_delta"]) == (table["mean"], table["std"]) == (2.0, 1.0)


def test_numbers_are_numbers_of_yaml():
    yaml = pytest.importorskip("yaml")
    statistics = FieldStatistics()
    statistics.add(np.array([1e-7, 3e-7]), frames=False)
    table = yaml.safe_load(format_statistics({"y": statistics}))  # y without quotes would be true
    assert table["mean"] == {"y": 2e-7}
    assert list(table) == ["mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"]
