"""The core, compiled or in NumPy, and the choice of the processor's instructions.

Its words: a *row* is one sample; a *batch* the rows of one step; a *tile* those rows of
a batch that are in the cache at a time; a *step* one change of the parameters; a *team*
the threads that make it together, a *share* what one of them takes; a *panel* a part of
a matrix, packed for the cache; a *door* a function that Python calls.

The core is compiled for several instruction sets ("baseline", "avx2", "avx512").
The widest that the processor has is used. The environment variable SKBGD_ISA, read when
the package is imported, names a narrower one, or "numpy", the core that is not compiled
and which is used too where the compiled one is missing: results differ by rounding.
"""

import os
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType

INSTRUCTION_SET = os.environ.get("SKBGD_ISA")


def _cure() -> str:
    """How to get the compiled core."""
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").is_file():
        return (
            f"Python imports skbgd from its sources in {root}, where the core is not "
            "compiled. If skbgd is installed elsewhere, run Python in another folder. "
            "To use these sources, install a C++ compiler (g++, clang++, Visual "
            f'Studio) if there is none, and then run: pip install -e "{root}".'
        )
    return (
        "Install a C++ compiler (g++, clang++, Visual Studio) and then skbgd again, "
        "with pip's options --force-reinstall --no-deps --no-binary=skbgd."
    )


def _chosen() -> ModuleType:
    if INSTRUCTION_SET != "numpy":
        try:
            return import_module("._backprop", __name__)
        except ImportError as error:
            warnings.warn(
                f"skbgd runs without its compiled core ({error}), on one in NumPy: "
                f"small batches and sparse rows take many times as long. {_cure()} "
                "SKBGD_ISA=numpy in the environment chooses the NumPy core without "
                "this warning.",
                RuntimeWarning,
                stacklevel=3,
            )
    return import_module("._numpy", __name__)


backprop = _chosen()
COMPILED = hasattr(backprop, "NativeThreadPool")
_names = backprop.instruction_sets()
INSTRUCTION_SET = INSTRUCTION_SET or _names[-1]
if INSTRUCTION_SET not in _names:
    raise ValueError(
        f"Got SKBGD_ISA={INSTRUCTION_SET!r}; on this machine it must be one of "
        f"{[*dict.fromkeys(['numpy', *_names])]}."
    )
backprop.use_instruction_set(INSTRUCTION_SET)
