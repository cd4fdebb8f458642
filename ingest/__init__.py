"""From a catalogue and survey frames to a dataset on disk.

Positions are ICRS degrees; images are (y, x), a pixel's centre lies at integer coordinates from 0; flux is in
nanomaggies per pixel; NaN is a pixel that no frame covers.
"""

from .errors import IngestError

__all__ = ["IngestError"]
