from __future__ import annotations

from pathlib import Path

from nnscan.cli.estimate import MOST_ARRAYS, estimate_lines, slurm_lines
from nnscan.estimate import SlurmEstimate, dry_run
from nnscan.launch_options import LaunchOptions
from nnscan.launchers.slurm.plan import ArrayPlan
from nnscan.results.folder import ScanFolder
from nnscan.scan import read

ARRAY = ArrayPlan(((0, 50), (50, 100)), at_once=2, minutes=90)


def lines(*arrays: ArrayPlan, gpus: float = 0.0, gpu_hours: float | None = None, note: str = "") -> list[str]:
    script = "" if note else "#!/bin/bash\n\n#SBATCH --array=0-1\n"
    return list(slurm_lines(SlurmEstimate(arrays=arrays, script=script, gpus=gpus, gpu_hours=gpu_hours, note=note)))


def test_arrays_are_told_with_the_script() -> None:
    later = ArrayPlan(((100, 101),), at_once=1, minutes=60, after=0)
    assert lines(ARRAY, later) == [
        "sbatch: 2 bundles with 100 trials in all; 2 at once, 1:30:00 each",
        "sbatch: 1 bundle with 1 trial in all; 1 at once, 1:00:00 each, when array 1 has ended",
        "    #!/bin/bash",
        "",
        "    #SBATCH --array=0-1",
    ]


def test_gpu_hours_are_told_where_trials_take_gpus() -> None:
    assert lines(ARRAY, gpus=2.0, gpu_hours=12.34)[1] == "GPU-hours: about 12.3"
    assert lines(ARRAY, gpus=2.0)[1] == "GPU-hours: known once a trial has finished"


def test_a_cluster_that_is_not_known_is_told() -> None:
    assert lines(ARRAY, note="sinfo: no answer within 20 s") == [
        "Planned without the cluster: sinfo: no answer within 20 s",
        "sbatch: 2 bundles with 100 trials in all; 2 at once, 1:30:00 each",
    ]


def test_many_arrays_are_counted() -> None:
    assert "and 3 arrays more" in lines(*[ARRAY] * (MOST_ARRAYS + 3))


def test_axes_that_vary_together_are_told_by_their_combinations(tmp_path: Path) -> None:
    scan = """
    name = "coupled"
    [data]
    name = "digits"
    [optimizer]
    name = "sgd"
    [training]
    epochs = 1
    [[grid]]
    family = "Coupled"
    model.name = "mlp"
    model.width = [8, 16, 32]
    model.depth = [1, 2, 3]
    zip = ["model.width", "model.depth"]
    [[grid]]
    family = "Plain"
    model.name = "mlp"
    model.width = [8, 16]
    """
    estimate = dry_run(read(scan), ScanFolder(tmp_path / "coupled"), LaunchOptions(cluster="inline"))
    told = [line for line in estimate_lines(estimate) if line.startswith(("Coupled", "Plain"))]
    assert told[0].startswith("Coupled: 3 configurations of 9 combinations, ")
    assert told[1].startswith("Plain: 2 configurations, ")
