"""What has to be set before SciPy is imported, and the way to `reference`."""

import os
import sys
from pathlib import Path

# scikit-learn skips its array API check without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# `import reference` finds tests/reference.py.
sys.path.insert(0, str(Path(__file__).parent))
