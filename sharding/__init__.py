"""What a dataset is on disk, and how a sample is found, checked and ordered.

Images are band, y, x (C order), little-endian float32, nanomaggies per pixel, not dereddened. A pixel is finite: what
no frame covers never becomes a sample (see ``coverage`` in `dataset.json`).
"""

from .atomic import atomic_file
from .dataset import Dataset
from .errors import DatasetError
from .order import Order, State
from .verify import verify

__all__ = ["Dataset", "DatasetError", "Order", "State", "atomic_file", "verify"]
