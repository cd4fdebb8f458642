"""How fast each stage is beside its peers, measured in one run on data made on the spot.

Rates are images/s of one core (of the accelerator, where there is one): an image is a galaxy with its five bands, which
`augment` turns into two views and `train` learns from as a pair. So the stages' rates can be compared with each other.
Ingest also says frames/s, which its input sets, and what whole jobs on some workers do.
"""

from .results import Report, Result, StageReport
from .timing import Contender, race
from .verdict import verdict

__all__ = ["Contender", "Report", "Result", "StageReport", "race", "verdict"]
