// Included once per instruction set, after its vocabulary.

namespace {

using F = Isa::F;
constexpr int L = Isa::kLanes;
constexpr int kMostDims = 256;

// Four sums side by side, as ggml_vec_dot_f16.
float dot_halves(int dim, const std::uint16_t* x, const std::uint16_t* y) {
    F sum[4] = {Isa::zero(), Isa::zero(), Isa::zero(), Isa::zero()};
    int j = 0;
    for (; j + 4 * L <= dim; j += 4 * L) {
        for (int i = 0; i < 4; ++i) sum[i] = Isa::fma(Isa::load_half(x + j + i * L), Isa::load_half(y + j + i * L), sum[i]);
    }
    for (; j < dim; j += L) sum[0] = Isa::fma(Isa::load_half(x + j), Isa::load_half(y + j), sum[0]);
    return Isa::reduce_add(Isa::add(Isa::add(sum[0], sum[1]), Isa::add(sum[2], sum[3])));
}

void one_head(const F16Attention& args, int head) {
    const int d = args.head_dim, kv_heads = args.num_heads / args.group_size, kv_head = head / args.group_size;
    std::uint16_t query[kMostDims], sum[kMostDims] = {};
    for (int j = 0; j < d; j += L) Isa::store_half(query + j, Isa::load(args.query + head * d + j));
    float largest = -__builtin_inff(), total = 0;
    for (int cell = 0; cell < args.num_cells; ++cell) {
        const std::size_t at = (static_cast<std::size_t>(cell) * kv_heads + kv_head) * d;
        const float score = dot_halves(d, args.keys + at, query) * args.scale;
        float shrink = 1, weight = 1;
        if (score > largest) {
            shrink = __builtin_expf(largest - score);
            largest = score;
            for (int j = 0; j < d; j += L) Isa::store_half(sum + j, Isa::mul(Isa::load_half(sum + j), Isa::set(shrink)));
        } else {
            weight = __builtin_expf(score - largest);
        }
        for (int j = 0; j < d; j += L) Isa::store_half(sum + j, Isa::fma(Isa::load_half(args.values + at + j), Isa::set(weight), Isa::load_half(sum + j)));
        total = total * shrink + weight;
    }
    for (int j = 0; j < d; j += L) Isa::store(args.out + head * d + j, Isa::mul(Isa::load_half(sum + j), Isa::set(1 / total)));
}

void all_heads(const F16Attention& args) {
    for (int head = 0; head < args.num_heads; ++head) one_head(args, head);
}

}  // namespace
