"""Runs of `python -m trainer` on any number of ranks, each a fork of this process, which has imported all they need.

One JSON object a line on standard input asks for a run: ``ranks``, ``words`` (the command line), ``log`` (a file for
what they say) and ``nudge`` (start from weights one ulp away). The answer is a line with their process ids, and, when
all have ended, one with their statuses. torchrun does the same more slowly: it imports everything again for each rank.
"""

import json
import os
import socket
import sys
import traceback

import torch
import torch._dynamo  # optimisers import it when the first is made: two seconds a rank
import torch.utils.tensorboard

import trainer.finetune
import trainer.pretrain
import trainer.running
from trainer.__main__ import main


def child(request: dict, rank: int, port: int) -> int:
    """Be one rank."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(request["ranks"])}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""}
    trainer.running.write_run_report = lambda run: run / "report.html"  # it takes longer than the run
    if request["nudge"]:
        trainer.pretrain.Pretraining._network = nudged(trainer.pretrain.Pretraining._network)
    return main(request["words"])


def nudged(make: object) -> object:
    """The same network with every weight one ulp larger."""

    def made(self: object, bands: int) -> torch.nn.Module:
        network = make(self, bands)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.nextafter(parameter, torch.tensor(torch.inf)))
        return network

    return made


def fork(request: dict, rank: int, port: int) -> int:
    """The process id of a new rank."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    try:
        status = child(request, rank, port)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        status = 1
    os._exit(status)


def serve() -> None:
    """One run after another."""
    for line in sys.stdin:
        request = json.loads(line)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        pids = [fork(request, rank, port) for rank in range(request["ranks"])]
        print(json.dumps(pids), flush=True)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


if __name__ == "__main__":
    serve()
