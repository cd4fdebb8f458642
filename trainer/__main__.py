"""`python -m trainer COMMAND`: pre-train, fine-tune, judge and look. Each command is a module with its own arguments.

A command's module is imported when it is called, so that the list of commands does not wait for torch.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "pretrain": "learn representations without labels (MoCo v2); resumes by itself",
    "finetune": "learn redshifts or classes: fine-tuned, as a linear probe, or from scratch",
    "evaluate": "judge a fine-tuned run on the test split: metrics.json and figures",
    "knn": "judge an encoder by the labels of the nearest training galaxies; nothing is trained",
    "report": "write the page of a run: curves, scores, settings, checkpoints",
    "export": "write a run's network as safetensors, for other programs",
    "embed": "write the representation of every sample to a Parquet file",
    "similar": "find the galaxies nearest to one in such a file",
    "map": "draw all galaxies of such a file as UMAP lays them out, coloured by a column",
    "views": "draw a grid of augmented views to look at",
    "study": "compare what few labels are worth with and without pre-training",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 2 for a user's error, in one line, 75 where a signal ended a run that is to be started again."""
    words = list(sys.argv[1:] if argv is None else argv)
    outer = argparse.ArgumentParser(prog="python -m trainer", description="Train and judge galaxy representations.")
    commands = outer.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    command = outer.parse_args(words[:1]).command
    return _run(command, words[1:])


def _run(command: str, words: list[str]) -> int:
    module = importlib.import_module(f"trainer.{command}")
    from .errors import USER_ERRORS
    from .signals import REQUEUE_STATUS, Preempted

    text = COMMANDS[command]
    parser = argparse.ArgumentParser(prog=f"python -m trainer {command}", description=text[0].upper() + text[1:] + ".")
    module.add_arguments(parser)
    try:
        return int(module.run(parser.parse_args(words)))
    except USER_ERRORS as err:
        print(f"trainer: error: {err}", file=sys.stderr)
        return 2
    except Preempted as why:
        print(f"trainer: {why}", file=sys.stderr)
        return REQUEUE_STATUS


if __name__ == "__main__":
    sys.exit(main())
