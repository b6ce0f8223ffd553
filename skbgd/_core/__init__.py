"""The core computes losses, gradients, steps and outputs; selects its implementation.

Glossary: a *row* is one sample; a *step* is one update of the parameters; a *batch*
holds the rows of one step; a *tile* holds the rows of a batch that are processed
together and fit the cache; a *chunk* is the part of the work that is given to one
thread of the *thread pool*; a *panel* is a part of a matrix, packed for the cache; a
*trainer* is a network bound to rows and to a number of threads.

The core is compiled for several instruction sets: "baseline", "avx2" and "avx512". The
package uses the widest one that the processor supports. The environment variable
SKBGD_ISA, which is read when the package is imported, selects another one, or "numpy":
the core in NumPy, which is also used if the compiled core is missing. Results of
different instruction sets differ by rounding.
"""

import os
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType

INSTRUCTION_SET = os.environ.get("SKBGD_ISA")


def _cure() -> str:
    """Say how to install the compiled core."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        return (
            f"Python imported skbgd from its sources in {root}, where the core is not "
            "compiled. If skbgd is installed elsewhere, run Python in another folder. "
            "To use these sources, install a C++ compiler (g++, clang++, Visual "
            f'Studio) if necessary, then run: pip install -e "{root}".'
        )
    return (
        "Install a C++ compiler (g++, clang++, Visual Studio), then reinstall skbgd "
        "with pip's options --force-reinstall --no-deps --no-binary=skbgd."
    )


def _select() -> ModuleType:
    if INSTRUCTION_SET != "numpy":
        try:
            return import_module("._backprop", __name__)
        except ImportError as error:
            warnings.warn(
                f"skbgd runs without its compiled core ({error}) and uses NumPy: "
                f"small batches and sparse rows take many times as long. {_cure()} "
                "Set the environment variable SKBGD_ISA=numpy to use NumPy without "
                "this warning.",
                RuntimeWarning,
                stacklevel=3,
            )
    return import_module("._numpy", __name__)


backprop = _select()
COMPILED = hasattr(backprop, "ModeSelector")
_names = backprop.instruction_sets()
INSTRUCTION_SET = INSTRUCTION_SET or _names[-1]
if INSTRUCTION_SET not in _names:
    raise ValueError(
        f"Got SKBGD_ISA={INSTRUCTION_SET!r}; on this machine it must be one of "
        f"{[*dict.fromkeys(['numpy', *_names])]}."
    )
backprop.use_instruction_set(INSTRUCTION_SET)
