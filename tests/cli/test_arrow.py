"""Commands that read results do so without pandas, and take nothing from who uses it."""

import subprocess
import sys

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
