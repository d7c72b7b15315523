"""The command line and what it needs of the machine."""

import os

# Before anything imports NumPy: ranks share cores, and BLAS threads of their own make them many times slower.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
