"""Commands that read results do so without pandas, and take nothing from who uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from nnscan.cli.arrow import do_without_pandas
do_without_pandas()
import pyarrow as pa
import pyarrow.compute as pc
table = pa.table({"a": pa.array([1, 2])})
assert pc.equal(table["a"], 2).to_pylist() == [False, True]
assert "pandas" not in sys.modules
assert table.to_pandas()["a"].tolist() == [1, 2]
import pandas
do_without_pandas()
assert pa.array(pandas.Series([1.5, None])).to_pylist() == [1.5, None]
"""


def test_arrow_imports_pandas_only_where_it_is_needed():
    subprocess.run([sys.executable, "-c", CODE], check=True)


THREADS = """
import os
from nnscan.cli.arrow import BLAS_THREADS, _import_numpy
_import_numpy()
print(len(os.listdir("/proc/self/task")), os.environ.get(BLAS_THREADS))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux lists the threads of a process there")
@pytest.mark.parametrize(("asked", "told"), [({}, "1 None\n"), ({"OPENBLAS_NUM_THREADS": "1"}, "1 1\n")])
def test_numpy_starts_no_threads_and_children_are_told_nothing(asked, told):
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | asked
    command = [sys.executable, "-c", THREADS]
    assert subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout == told
