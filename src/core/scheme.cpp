#include "core/scheme.hpp"

#include <algorithm>
#include <numeric>

#include "core/layout.hpp"
#include "core/schemes/schemes.hpp"

namespace turboquant {

bool uses_records(const Spec& spec, Side side) {
    if (side == Side::key) return spec.key_estimator == Estimator::prod || spec.outlier_split;
    return spec.value_scheme == ValueScheme::group || spec.outlier_split;
}

std::vector<std::uint16_t> outlier_channels(std::span<const double> power) {
    std::vector<std::uint16_t> channels(power.size());
    std::iota(channels.begin(), channels.end(), std::uint16_t{0});
    std::stable_sort(channels.begin(), channels.end(), [&](int a, int b) { return power[a] > power[b]; });
    channels.resize(num_outliers(static_cast<int>(power.size())));
    std::sort(channels.begin(), channels.end());
    return channels;
}

std::unique_ptr<const RowScheme> make_scheme(const Spec& spec, Side side, std::span<const std::uint16_t> outliers) {
    if (side == Side::key && spec.key_estimator == Estimator::prod) return make_prod_scheme(spec, side);
    if (side == Side::value && spec.value_scheme == ValueScheme::group) return make_group_scheme(spec, side);
    return make_split_scheme(spec, side, outliers);
}

std::size_t sealed_tile_bytes(const Spec& spec, Side side) {
    if (!uses_records(spec, side))
        return TileLayout{side, spec.head_dim, side == Side::key ? spec.key_bits : spec.value_bits}.blob_bytes();
    const std::vector<double> silent(spec.head_dim, 0.0);  // which channels are the outliers changes no size
    return kTileTokens * make_scheme(spec, side, outlier_channels(silent))->record_bytes();
}

}  // namespace turboquant
