#!/usr/bin/env python3
"""Prints the TF_CONFIG of one worker. Needs nothing but Python.

deploy/tf_config.py --slurm                               of this task of a SLURM step
deploy/tf_config.py --workers=a:5000,b:5000 --index=1     by hand
deploy/tf_config.py --service=train --name=train --number=4 --index=$JOB_COMPLETION_INDEX
                                                          of a Kubernetes Indexed Job
"""

import argparse
import json
import os
import re
import sys

_PORT = 5000


def tf_config(workers: list[str], index: int) -> str:
    """TF_CONFIG of worker `index` of those at "HOST:PORT"."""
    if not 0 <= index < len(workers):
        raise SystemExit(f"error: worker {index} of {len(workers)}; they count from 0")
    cluster = {"worker": workers}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def slurm_workers(environment: dict[str, str], port: int) -> tuple[list[str], int]:
    """Addresses of all tasks of a SLURM step, and which of them this one is.

    Several tasks on a node have ports side by side.
    """
    try:
        hosts = expand_hosts(
            environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
        )
        tasks = expand_counts(
            environment.get("SLURM_STEP_TASKS_PER_NODE") or environment["SLURM_TASKS_PER_NODE"]
        )
        index = int(environment["SLURM_PROCID"])
    except KeyError as error:
        raise SystemExit(f"error: {error.args[0]} is not set; run it by srun") from error
    if len(hosts) != len(tasks):
        raise SystemExit(f"error: {len(hosts)} nodes, but tasks on {len(tasks)}")
    pairs = zip(hosts, tasks, strict=True)
    return [f"{host}:{port + place}" for host, count in pairs for place in range(count)], index


def expand_hosts(text: str) -> list[str]:
    """The hosts of a list as SLURM writes it: "gpu[01-03,7],login" is gpu01, gpu02, ...

    Raises:
        SystemExit: two brackets in one name.
    """
    hosts = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        pieces = re.split(r"\[([^\]]*)\]", part)
        if len(pieces) == 1:
            hosts.append(part)
            continue
        if len(pieces) > 3:
            raise SystemExit(f"error: {part}: several brackets are not understood; use --workers")
        before, ranges, after = pieces
        for span in ranges.split(","):
            first, _, last = span.partition("-")
            for number in range(int(first), int(last or first) + 1):
                hosts.append(f"{before}{number:0{len(first)}d}{after}")
    return hosts


def expand_counts(text: str) -> list[int]:
    """Tasks of each node as SLURM writes them: "2(x3),1" is 2, 2, 2, 1."""
    counts = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    return counts


def main() -> str:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slurm", action="store_true", help="take all from SLURM's variables")
    parser.add_argument("--workers", help="HOST:PORT of each, between commas")
    parser.add_argument("--service", help="the headless service of an Indexed Job's pods")
    parser.add_argument("--name", help="the Job's name")
    parser.add_argument("--number", type=int, help="its completions")
    parser.add_argument("--index", type=int, help="which worker this is, from 0")
    parser.add_argument("--port", type=int, default=_PORT, help=f"default: {_PORT}")
    given = parser.parse_args()
    if given.slurm:
        return tf_config(*slurm_workers(dict(os.environ), given.port))
    if given.index is None:
        parser.error("--index is missing")
    if given.workers:
        return tf_config(given.workers.split(","), given.index)
    if not (given.service and given.name and given.number):
        parser.error("give --slurm, or --workers, or --service with --name and --number")
    pods = [f"{given.name}-{i}.{given.service}:{given.port}" for i in range(given.number)]
    return tf_config(pods, given.index)


if __name__ == "__main__":
    sys.stdout.write(main() + "\n")
