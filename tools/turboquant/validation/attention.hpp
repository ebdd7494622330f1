// What coded keys do to attention's weights; also an entry of `turboquant audit`.
#pragma once

#include "validation/row.hpp"

namespace turboquant::validation {

enum class KeyCode { mse_least_squares, shipped, prod };

// KL divergence (nats) of softmax weights with coded keys from those with exact ones: 2,048 Gaussian keys of 128 numbers, logits of
// standard deviation 1. Samples are of key sets, each the mean over 64 queries.
Sample measure_divergence(const Options& options, KeyCode code, int bits);

}  // namespace turboquant::validation
