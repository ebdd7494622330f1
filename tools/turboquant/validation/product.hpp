// Errors of estimator `prod`; also entries of `turboquant audit`.
#pragma once

#include "turboquant/spec.hpp"
#include "validation/row.hpp"

namespace turboquant::validation {

// Keys of estimator `prod` at dimension 128, everything else as little as it goes.
Spec product_spec(int bits, Sketch sketch);

struct ProductError {
    Sample product;  // <x, decoded x> of unit vectors: 1 without bias
    Sample error;    // |x - decoded x|^2
};
// At dimension 128. Samples are of matrices S, each the mean over several vectors. One bit: the sketch alone.
ProductError measure_product(const Options& options, int bits, Sketch sketch);

// E |r - decoded r|^2 / |r|^2 of a sketched residual r.
double residual_factor(Sketch sketch, int dim);

// Distortion of the stored codebook of so many bits on unit vectors with the plain scale; 1 for 0 bits.
double base_distortion(int bits, int dim);

}  // namespace turboquant::validation
