from .comparison import Difference as Difference
from .metadata import ALL_COLUMNS as ALL_COLUMNS
from .metadata import CHECKS as CHECKS
from .metadata import Checked as Checked
from .metadata import Finding as Finding
from .verdict import Verdict as Verdict
from .verdict import verify as verify
