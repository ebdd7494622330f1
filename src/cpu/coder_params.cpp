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
    p.trellis = coder.follows_trellis();
    if (p.trellis) {
        const TrellisBook& book = trellis_book(coder.bits);
        const int low_bits = coder.bits == 4 ? 4 : 2;  // of the main plane
        p.alpha = book.alpha;
        for (int i = 0; i < book.num_levels(); ++i) {
            const int code = i / 2, u1 = i % 2;  // with u2 taken out of the code
            p.codeword[(code >> low_bits) * 8 + (u1 << low_bits) + code % (1 << low_bits)] = book.level[i];
            p.subset_level[i % 4][i / 4] = book.level[i];
            if (i >= 4) p.subset_threshold[i % 4][i / 4] = book.threshold(i % 4, i / 4);
            for (int u = 0; u < 2; ++u) p.trellis_code[256 * u + book.level[i] + 128] = static_cast<std::uint8_t>(i / 4 * 2 + u);
        }
        p.buckets_per_unit = kBucketsPerUnit;
        p.outer_bucket = kOuterBucket;
        for (int s = 0; s < 4; ++s) {
            int k = 0;  // thresholds in lower buckets
            for (int bucket = -kOuterBucket; bucket <= kOuterBucket; ++bucket) {
                const int above = k + 1 < book.subset_size() && trellis_bucket(book.threshold(s, k + 1)) == bucket ? k + 1 : k;
                for (const int at : {bucket & 7, (bucket & 7) + 8}) {
                    p.bucket_low[s][at] = book.level[4 * k + s];
                    p.bucket_high[s][at] = book.level[4 * above + s];
                    p.bucket_threshold[s][at] = above > k ? book.threshold(s, above) : 0.0f;  // 0: low and high are the same
                }
                k = above;
            }
        }
    } else if (coder.bits != 8) {
        const Codebook& book = codebook(coder.bits);
        p.half = book.half;
        p.alpha = book.alpha;
        std::copy(std::begin(book.positive), std::end(book.positive), p.level);
        std::copy(std::begin(book.threshold), std::end(book.threshold), p.threshold);
        std::copy(std::begin(book.codeword), std::end(book.codeword), p.codeword);
    }
    const std::span<const float> gains = p.trellis ? std::span<const float>(kTrellisGain) : std::span<const float>(kGain);
    p.num_gains = coder.gain_search ? static_cast<int>(gains.size()) : 1;
    for (int g = 0; g < p.num_gains; ++g) p.gain[g] = coder.gain_search ? gains[g] : 1.0f;
    return p;
}

}  // namespace turboquant::cpu
