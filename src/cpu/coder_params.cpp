#include "cpu/coder_params.hpp"

#include <algorithm>

#include "core/codebook.hpp"

namespace turboquant::cpu {

CoderParams coder_params(const Coder& coder) {
    const RotationTables& rotation = *coder.rotation;
    CoderParams p{};
    p.head_dim = coder.head_dim;
    p.bits = coder.bits;
    p.norm_matched = coder.side == Side::key;
    p.base = rotation.base;
    p.run = rotation.run;
    p.sign = rotation.sign.data();
    p.paley = rotation.paley.data();
    p.dense = rotation.kind == Rotation::haar ? rotation.dense.data() : nullptr;
    p.norm = rotation.norm;
    if (coder.bits != 8) {
        const Codebook& book = codebook(coder.bits);
        p.half = book.half;
        p.alpha = book.alpha;
        std::copy(std::begin(book.positive), std::end(book.positive), p.level);
        std::copy(std::begin(book.threshold), std::end(book.threshold), p.threshold);
        std::copy(std::begin(book.codeword), std::end(book.codeword), p.codeword);
    }
    p.num_gains = coder.gain_search ? kGains : 1;
    for (int g = 0; g < p.num_gains; ++g) p.gain[g] = kGain[coder.gain_search ? g : kGains / 2];
    return p;
}

}  // namespace turboquant::cpu
