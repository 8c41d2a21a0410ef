import resource

import h5py
import numpy as np
import pytest

from sciml_bounds.store.safety.hdf5_output import Hdf5Output


def test_what_is_written_in_steps_is_in_the_file(tmp_path):
    output = Hdf5Output(tmp_path / "a.h5")
    with output.step() as file:
        file.create_dataset("a", (3, 4), "f4", chunks=(1, 4), compression="gzip", fletcher32=True)
    for row in range(3):
        with output.step() as file:
            file["a"][row] = row
    output.finish()
    output.close()
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["a"], np.repeat(np.arange(3.0), 4).reshape(3, 4))


def test_a_write_that_fails_is_an_error_and_no_crash(tmp_path):
    output = Hdf5Output(tmp_path / "a.h5")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"), output.step() as file:
            file["a"] = np.random.default_rng(0).random(10_000)
        output.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
