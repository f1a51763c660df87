"""What a user of Optuna writes today: a GridSampler, a journal on disk, a process a core.

The first TRIALS of the grid of `mnist_grid.py`. usage: optuna_grid.py DATA_ROOT EPOCHS TRIALS
"""

import multiprocessing
import sys
import tempfile
import time

import optuna
import torch
from mnist_plain import POINTS, train
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

ROOT, EPOCHS, TRIALS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
PROCESSES = 2


def objective(trial: optuna.Trial) -> float:
    point = trial.suggest_categorical("point", list(range(TRIALS)))
    accuracy = 0.0
    for epoch, accuracy in enumerate(train(ROOT, EPOCHS, *POINTS[point])):
        trial.report(accuracy, epoch)
    return accuracy


def work(path: str) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study(path).optimize(objective, n_trials=TRIALS // PROCESSES)


def study(path: str) -> optuna.Study:
    sampler = optuna.samplers.GridSampler({"point": list(range(TRIALS))}, seed=0)
    storage = JournalStorage(JournalFileBackend(path))
    return optuna.create_study(
        storage=storage, study_name="grid", sampler=sampler, direction="maximize", load_if_exists=True
    )


def main() -> None:
    path = f"{tempfile.mkdtemp()}/journal.log"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study(path)
    started = time.monotonic()
    workers = [multiprocessing.get_context("spawn").Process(target=work, args=(path,)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = study(path)
    print(f"trials {len(found.trials)} best {found.best_value:.4f} fit {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
