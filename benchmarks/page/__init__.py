"""A report drawn: one HTML page that holds everything, or one figure that sums it up."""

from .figures import figure
from .page import write_page

__all__ = ["figure", "write_page"]
