"""`python -m trainer study`: what pre-training is worth, at any number of labels, beside what one would try first.

The way through it: a `recipe` says what is compared; `plan` turns it into trainings, each a process of its own;
`scheduler` runs them over the devices there are; `answers` asks the chosen ones about the test galaxies; `scores`
compares the answers with the truth, which nothing before it has seen; `claim` puts that in a sentence, `report` on a
page.
"""

from .command import add_arguments, run

__all__ = ["add_arguments", "run"]
