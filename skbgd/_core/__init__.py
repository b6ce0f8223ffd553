"""The compiled core, and the choice of the processor's instructions.

Its words: a *row* is one sample; a *batch* the rows of one step; a *tile* those rows of
a batch that are in the cache at a time; a *step* one change of the parameters; a *team*
the threads that make it together; a *panel* a part of a matrix, packed for the cache.

The kernels are compiled for several instruction sets ("baseline", "avx2", "avx512").
The widest that the processor has is used. The environment variable SKBGD_ISA, read when
the package is imported, names a narrower one: results differ by rounding.
"""

import os

from . import _backprop

INSTRUCTION_SET = os.environ.get("SKBGD_ISA") or _backprop.instruction_sets()[-1]
_backprop.use_instruction_set(INSTRUCTION_SET)
