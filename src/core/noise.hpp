// Whether a layer's keys need more bits: an estimate of the noise that coding adds to attention's logits.
#pragma once

namespace turboquant {

// Relative squared error of the codes on rotated (Gaussian) vectors, by stored bits (arXiv 2504.19874, Theorem 1).
double relative_distortion(int bits);

// Standard deviation of the error of one logit: the error of a coded key is nearly independent of the query after a
// random rotation, so var = scale^2 |q|^2 |k|^2 D / head_dim. |k| is the key's distance from its tile's reference.
double logit_noise(double scale, double query_rms_norm, double key_rms_norm, int head_dim, int bits);

// Above this a layer takes 8-bit keys. The KL divergence of attention weights grows as noise^2 / 2: ordinary layers lie at 0.1
// to 0.4 with 4 and 3 bits, layer 0 of Qwen2.5 above 2 (docs/decisions/0004-wide-keys.md).
inline constexpr double kWideKeyNoise = 1.0;

}  // namespace turboquant
