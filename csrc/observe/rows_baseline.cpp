// The row kernel for any processor.
#pragma GCC diagnostic ignored "-Wpsabi"  // no vector is passed to a function that is not inlined

#define PYI_ISA baseline
#define PYI_VECTOR_BYTES 16
#include "observe/rows_kernel.h"

// Uses what the rows' defines.
#include "observe/ensemble_kernel.h"
