"""What srun starts: a process of a step, one rank of the trials of its bundle.

Which signals come, and when (Slurm 22.05, measured; SIGCONT comes before each and does nothing):

- `--signal=USR2@60`, and `scancel --signal=USR2`: to these processes alone; the script and its children get none. It
  may come a minute early: 31 s before the end of a minute where 10 were asked for.
- Preemption with a grace time: SIGTERM, to these processes alone. When the grace is over, as next.
- `scancel`, `scontrol requeue`, the time limit, preemption without grace: SIGTERM to all processes of the job at once,
  SIGKILL after KillWait (30 s by default).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from nnscan import launch_folder
from nnscan.allocation import Allocation, AllocationEndedError, Reason, end_on
from nnscan.allocator import keep_memory
from nnscan.errors import NnscanError
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm.step import Ending, Step, unfinished
from nnscan.ranks import RANKS_LOST_STATUS, RanksLostError
from nnscan.ranks.guest import join
from nnscan.ranks.host import host
from nnscan.ranks.meeting import LOOPBACK, TIMES, Meeting, looks, own_address
from nnscan.results.folder import ScanFolder, write_atomically
from nnscan.worker import follow, run_bundle

SIGNALS = {signal.SIGUSR2: Reason.TIME_LIMIT, signal.SIGTERM: Reason.TERMINATED}

FIRST_SECONDS = 5.0
"""From the start of a bundle to that of its first trial, at most: in a new allocation that trial always fits."""


def main(arguments: list[str]) -> int:
    """Run this process's rank of a step; return the exit status, which says who ended badly, not how the step did."""
    keep_memory()
    step = Step.of(arguments)
    allocation = Allocation(step.ends, step.seconds)
    end_on(allocation, SIGNALS)
    launch = launch_folder.read(ScanFolder(step.folder), step.bundle.launch)
    if launch.trains_networks:
        from nnscan.training.network import warm_up  # seconds that belong to no trial

        warm_up()
    if step.number == 0:
        allocation.seconds = step.ends - time.time() - FIRST_SECONDS
    rank = int(os.environ.get("SLURM_PROCID", 0))
    return _follow(step, launch, allocation, rank) if rank else _lead(step, launch, allocation)


def _lead(step: Step, launch: Launch, allocation: Allocation) -> int:
    """Be rank 0, and tell the supervisor how it ended."""
    stopped: list[tuple[str, bool]] = []
    reason = error = ""
    came = True
    try:
        with allocation.telling(lambda _: stopped.extend(unfinished(ScanFolder(step.folder), step.bundle.name))):
            _run(step, launch, allocation)
    except AllocationEndedError as ended:
        reason = ended.reason.value
    except RanksLostError as lost:
        print(f"the ranks are lost: {lost}", flush=True)
        came = lost.came
    except NnscanError as known:
        error = str(known)
    except Exception:
        error = traceback.format_exc()
    key, first = next(iter(stopped), ("", False))
    Ending(reason, error, key, whole=first and step.number == 0, came=came).write(step)
    return 0


def _run(step: Step, launch: Launch, allocation: Allocation) -> None:
    code = Path(launch.code)
    if launch.processes == 1:
        run_bundle(step.folder, code, step.bundle, allocation=allocation)
        return
    ranks = host(launch.processes, _address())
    try:
        step.meetings.mkdir(exist_ok=True)
        write_atomically(step.meeting, json.dumps(ranks.meeting.plain()).encode())
        run_bundle(step.folder, code, step.bundle, ranks=ranks, allocation=allocation)
    finally:
        ranks.close()


def _follow(step: Step, launch: Launch, allocation: Allocation, rank: int) -> int:
    """Be another rank than 0, which speaks for all."""
    try:
        follow(step.folder, Path(launch.code), join(_meeting(step), rank), allocation=allocation)
    except AllocationEndedError:
        return 0
    except RanksLostError as error:
        print(f"the ranks are lost: {error}", flush=True)
        return RANKS_LOST_STATUS
    return 0


def _meeting(step: Step) -> Meeting:
    for _ in looks(TIMES.rendezvous):
        if step.meeting.exists():
            return Meeting.of(json.loads(step.meeting.read_bytes()))
    raise RanksLostError(f"rank 0 did not say within {TIMES.rendezvous:g} s where it is to be met", came=False)


def _address() -> str:
    """Return where the others of the step reach this process: where srun runs leads the way that they come."""
    if int(os.environ.get("SLURM_STEP_NUM_NODES", 1)) == 1:
        return LOOPBACK
    return own_address(os.environ["SLURM_LAUNCH_NODE_IPADDR"])


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # torch and gloo take a second to be taken down in order, and may hang
