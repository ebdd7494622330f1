// Distortions of estimator `mse`; also entries of `turboquant audit`.
#pragma once

#include "core/codebook.hpp"
#include "validation/row.hpp"

namespace turboquant::validation {

// Of random unit vectors, plain scale, the density's exact codebook. Samples are of vectors.
Sample measure_distortion(const Options& options, Density density, int dim, int bits);

// Mean of <x, decoded x> of unit vectors with the plain scale, d = 128, exact codebook.
double mse_slope(const Options& options, int bits);

}  // namespace turboquant::validation
