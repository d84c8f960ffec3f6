"""A worker in a process of its own: `python -m tests.node.transfers.worker_process URL FILE [KEYS]`.

It carries a job by writing its study into the file, an instance every `detail` seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import zmq

from node.transfers import Item, Kind, Outcome, Verdict
from node.transfers.messages import Job
from node.transfers.wires import read_keys
from node.transfers.worker import Hands, Pulse, Worker

INSTANCES = 20


class Writer:
    """A carrier whose destination is a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def carry(self, job: Job, hands: Hands) -> Outcome:
        """Write a line for each instance that is not settled."""
        hands.plan({"1.9": INSTANCES})
        for number in range(INSTANCES):
            uid = f"{job.order.StudyInstanceUID}.{number}"
            if uid in job.settled:
                continue
            if hands.is_unwanted():
                return Outcome(Verdict.YIELDED)
            with self.file.open("a") as out:
                out.write(f"{uid}\n")
            hands.note(Item("1.9", uid, 10))
            time.sleep(float(job.order.detail or 0))
        return Outcome(Verdict.OVER)


def main(url: str, file: str, keys_file: str = "") -> None:
    context = zmq.Context()
    keys = read_keys(Path(keys_file)) if keys_file else None
    pulse = Pulse(context, url, time.time, keys)
    worker = Worker(context, url, {Kind.DELIVER: Writer(Path(file))}, pulse, time.time, keys=keys)

    def beat() -> None:
        while True:
            pulse.step(0.2)

    threading.Thread(target=beat, daemon=True).start()
    while True:
        worker.step(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
