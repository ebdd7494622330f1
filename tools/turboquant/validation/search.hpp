// Recall of a nearest-neighbour search on coded vectors; also an entry of `turboquant audit`.
#pragma once

#include "validation/row.hpp"

namespace turboquant::validation {

struct RecallPair {
    Sample scalar, product;  // the shipped coder; product quantisation at the same bits
    Sample difference;       // scalar - product, query by query
};
struct Recall {
    RecallPair at_1, at_10;  // the true nearest neighbour is the first, or among the first ten
};
Recall measure_recall(const Options& options, int bits);

}  // namespace turboquant::validation
