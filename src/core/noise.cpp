#include "core/noise.hpp"

#include <cmath>

namespace turboquant {

double relative_distortion(int bits) {
    switch (bits) {
        case 2: return 0.1175;
        case 3: return 0.0345;
        case 4: return 0.0095;
        case 5: return 0.0025;
        case 6: return 0.00066;
        default: return 0.00004;
    }
}

double logit_noise(double scale, double query_rms_norm, double key_rms_norm, int head_dim, int bits) {
    return scale * query_rms_norm * key_rms_norm * std::sqrt(relative_distortion(bits) / head_dim);
}

}  // namespace turboquant
