"""What `nnscan summarize` says, asked for by hand in DuckDB: leaderboards, the effect of each axis, how many ended how.

usage: duckdb_summary.py TRIALS_PARQUET AXIS,AXIS,... [--by-epochs EPOCHS_PARQUET METRIC]

The score of a trial stands in its row; with --by-epochs it is METRIC at its best, over all rows of that file.
"""

import sys

import duckdb

SCORES_OF_ROWS = "select *, score as value from read_parquet($trials)"
SCORES_OF_EPOCHS = """
select trials.* exclude (best_epoch), best.value, best.best as best_epoch from read_parquet($trials) trials join (
    select trial, min({metric}) as value, arg_min(epoch, {metric}) as best from read_parquet($epochs) group by trial
) best using (trial)
"""
BOARD = """
create table board as select family, configuration, avg(value) as mean, stddev_samp(value) as std, count(value) as n,
    avg(best_epoch) as best_epoch, avg(seconds) as seconds, any_value(parameters) as parameters, {axes}
from ({scores}) where status = 'completed' group by family, configuration
"""
TOP = "select * from board where family = $family order by mean {order}, seconds limit 10"
EFFECT = "select {axis}, avg(mean), stddev_samp(mean), count(*) from board where family = $family group by 1 order by 1"


def main() -> None:
    trials, axes = sys.argv[1], [f'"{axis}"' for axis in sys.argv[2].split(",")]
    by_epochs = "--by-epochs" in sys.argv
    scores, files = SCORES_OF_ROWS, {"trials": trials}
    if by_epochs:
        scores, files = SCORES_OF_EPOCHS.format(metric=sys.argv[5]), {"trials": trials, "epochs": sys.argv[4]}
    connection = duckdb.connect()
    print(connection.execute("select status, count(*) from read_parquet($1) group by 1", [trials]).fetchall())
    each = ", ".join(f"any_value({axis}) as {axis}" for axis in axes)
    connection.execute(BOARD.format(axes=each, scores=scores), files)
    for (family,) in connection.execute("select distinct family from board order by 1").fetchall():
        print(family)
        order = "asc" if by_epochs else "desc"
        for row in connection.execute(TOP.format(order=order), {"family": family}).fetchall():
            print(*row)
        for axis in axes:
            print(axis, connection.execute(EFFECT.format(axis=axis), {"family": family}).fetchall())


if __name__ == "__main__":
    main()
