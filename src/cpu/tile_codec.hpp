// One tile of one KV head: 64 binary16 rows <-> a simd64 blob, with the kernels. Bit for bit reference::seal_tile and open_row.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "cpu/coder_params.hpp"

namespace turboquant::cpu {

// A balance as factors; both null without one.
struct BalanceFactors {
    const float* forward = nullptr;  // [head_dim] 2^balance
    const float* inverse = nullptr;  // [head_dim] 2^-balance
};

// Working memory of one thread.
struct CodecScratch {
    std::vector<float> wide, folded;
    std::vector<std::uint8_t> codes;
    std::vector<std::uint8_t> unpacked;
};

class TileCodec {
public:
    explicit TileCodec(const Coder& coder);

    const TileLayout& layout() const { return layout_; }
    const CoderParams& params() const { return params_; }
    const Coder& coder() const { return coder_; }

    // rows: row 0 of this head; row t is row_stride numbers further each. Rows not in `counted` are coded as zero.
    void seal(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, bool centred, BalanceFactors balance, std::uint8_t* blob,
              CodecScratch& scratch) const;

    // Codes the rows in `which` again, against the reference that the blob has.
    void recode(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t which, BalanceFactors balance, std::uint8_t* blob,
                CodecScratch& scratch) const;

    // All 64 rows, reference added.
    void open(const std::uint8_t* blob, BalanceFactors balance, std::uint16_t* rows, std::size_t row_stride, CodecScratch& scratch) const;

    // |balanced distance from the blob's reference|^2 of the counted rows. Leaves the rows themselves, as floats, in scratch.wide.
    void distances(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, BalanceFactors balance, const std::uint8_t* blob,
                   std::array<float, kTileTokens>& squared, CodecScratch& scratch) const;

    // Per channel, the sum of squares over the counted rows; centred: of what is left of them without their mean.
    void add_power(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, bool centred, double* power, CodecScratch& scratch) const;

private:
    void widen(const std::uint16_t* rows, std::size_t row_stride, std::uint64_t counted, CodecScratch& scratch) const;
    void mean_of_wide(std::uint64_t counted, std::uint16_t* mean, CodecScratch& scratch) const;

    Coder coder_;
    CoderParams params_;
    TileLayout layout_;
};

}  // namespace turboquant::cpu
