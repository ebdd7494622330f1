#include "cuda/plain/tables.hpp"

#include <cmath>

#include "core/codebook.hpp"
#include "core/reference.hpp"
#include "core/schemes/mse_code.hpp"
#include "core/schemes/schemes.hpp"
#include "core/trellis.hpp"
#include "cuda/attend/fill.hpp"
#include "cuda/checks.hpp"

namespace turboquant::cuda {
namespace {

bool follows_trellis(const PageSpec& spec, Side side) {
    const bool own = side == Side::key ? spec.key_estimator == Estimator::mse : spec.value_scheme == ValueScheme::rotated;
    return own && spec.trellis_codes && (side == Side::key ? spec.key_bits : spec.value_bits) <= kMaxTrellisBits;
}

// positive, ascending, is filled in: thresholds between them, and levels by code.
void mirror(PlainBook* book, int half) {
    for (int k = 0; k < half; ++k) {
        if (k > 0) book->threshold[k] = 0.5f * (book->positive[k - 1] + book->positive[k]);
        book->code.level[half + k] = book->positive[k];
        book->code.level[half - 1 - k] = -book->positive[k];
    }
}

}  // namespace

bool uses_records(const PageSpec& spec) {
    return spec.key_estimator == Estimator::prod || spec.value_scheme == ValueScheme::group || follows_trellis(spec, Side::key) || follows_trellis(spec, Side::value);
}

RecordPage record_page(const PageSpec& spec) {
    return {{Side::key, spec.key_estimator == Estimator::prod ? RecordKind::prod : RecordKind::codes, spec.head_dim, spec.key_bits},
            {Side::value, spec.value_scheme == ValueScheme::group ? RecordKind::group : RecordKind::codes, spec.head_dim, spec.value_bits}};
}

PlainBook plain_book(const PageSpec& spec, Side side) {
    const RecordPage page = record_page(spec);
    const RecordSide& records = page.of(side);
    PlainBook book{};
    book.gain_search = spec.gain_search;
    if (records.kind == RecordKind::group) {
        for (int c = 0; c < 32; ++c) book.code.level[c] = static_cast<float>(c);
    } else if (records.kind == RecordKind::prod) {
        const std::vector<float> levels = unit_levels(records.code_bits());
        for (std::size_t k = 0; k < levels.size(); ++k) book.positive[k] = levels[k];
        mirror(&book, static_cast<int>(levels.size()));
    } else if (follows_trellis(spec, side)) {
        const TrellisBook& levels = trellis_book(records.bits);
        book.code.trellis = 1;
        book.alpha = levels.alpha;
        for (int i = 0; i < levels.num_levels(); ++i) book.code.level[i] = levels.level[i];
        for (int g = 0; g < kTrellisGains; ++g) book.gain[g] = kTrellisGain[g];
    } else if (records.bits < 8) {
        const Codebook& levels = codebook(records.bits);
        book.alpha = levels.alpha;
        for (int k = 0; k < levels.half; ++k) book.positive[k] = levels.positive[k];
        mirror(&book, levels.half);
        for (int g = 0; g < kGains; ++g) book.gain[g] = kGain[g];
    }
    return book;
}

PlainSketch plain_sketch(const PageSpec& spec, const float* table) {
    PlainSketch sketch{};
    if (spec.key_estimator != Estimator::prod) return sketch;
    sketch.table = spec.sketch == Sketch::gaussian ? table : nullptr;
    sketch.factor = static_cast<float>(sketch_factor(spec.sketch, spec.head_dim));
    sketch.root = std::sqrt(static_cast<float>(spec.head_dim));
    sketch.rotation = rotation_bits(spec.head_dim, spec.seed, kSketchStream, false);
    return sketch;
}

PlainAttendParams plain_attend_params(const PagedCache& cache, const AttendArgs& args, int processors) {
    const PageSpec& spec = cache.spec;
    PlainAttendParams p{};
    fill_attention(p, cache, args);
    p.page_stride = cache.page_stride;
    p.head_stride = cache.head_stride;
    p.tiles = static_cast<std::int32_t>(plain_units(1, 1, p.group, p.num_queries));
    const std::int64_t units = plain_units(args.batch, cache.kv_heads, p.group, p.num_queries);
    p.splits = plain_splits(units, processors);
    p.items = units * p.splits;
    p.early = args.start != Start::after;
    p.page = record_page(spec);
    p.key_code = plain_book(spec, Side::key).code;
    p.value_code = plain_book(spec, Side::value).code;
    if (p.page.keys.kind == RecordKind::prod) {  // a factor counts 1 / sqrt(head_dim) times
        for (float& level : p.key_code.level) level *= p.norm;
    }
    p.keys = rotation_bits(spec.head_dim, spec.seed, Side::key, false);
    p.values = rotation_bits(spec.head_dim, spec.seed, Side::value, true);
    p.sketch = plain_sketch(spec, cache.sketch_table);
    p.counters = static_cast<unsigned*>(args.workspace);
    p.pieces = reinterpret_cast<float*>(static_cast<std::uint8_t*>(args.workspace) + zeroed_bytes(processors));
    return p;
}

PlainAppendParams plain_append_params(const PagedCache& cache, const AppendArgs& args) {
    const PageSpec& spec = cache.spec;
    PlainAppendParams p{};
    p.keys = {args.keys, args.key_token_stride, args.key_head_stride, plain_book(spec, Side::key), rotation_bits(spec.head_dim, spec.seed, Side::key, false)};
    p.values = {args.values, args.value_token_stride, args.value_head_stride, plain_book(spec, Side::value), rotation_bits(spec.head_dim, spec.seed, Side::value, false)};
    p.page = record_page(spec);
    p.sketch = plain_sketch(spec, cache.sketch_table);
    p.pool = static_cast<std::uint8_t*>(cache.pages);
    p.page_stride = cache.page_stride;
    p.head_stride = cache.head_stride;
    p.slots = args.slots;
    p.query_start = args.batch > 0 ? args.query_start : nullptr;
    p.lengths = args.lengths;
    p.block_table = args.block_table;
    p.tokens = args.tokens;
    p.kv_heads = cache.kv_heads;
    p.batch = args.batch;
    p.table_stride = args.table_stride;
    p.norm = rotation_norm(spec.head_dim);
    p.number = args.number;
    p.centred = spec.centred_keys;
    p.early = args.start != Start::after;
    return p;
}

std::size_t sketch_table_bytes(const PageSpec& spec) {
    const bool needed = spec.key_estimator == Estimator::prod && spec.sketch == Sketch::gaussian;
    return needed ? sizeof(float) * static_cast<std::size_t>(spec.head_dim) * spec.head_dim : 0;
}

Status fill_sketch_table(const PageSpec& spec, float* table) {
    if (Status s = validate(spec); !s.ok()) return s;
    if (sketch_table_bytes(spec) == 0) return invalid_argument("the spec has no Gaussian sketch; a table is for key_estimator prod with sketch gaussian");
    if (!table) return invalid_argument("table is null");
    const std::size_t d = static_cast<std::size_t>(spec.head_dim);
    const std::vector<float> rows = normal_matrix(spec.head_dim, spec.seed, kSketchStream);
    for (std::size_t i = 0; i < d; ++i) {
        for (std::size_t j = 0; j < d; ++j) table[j * d + i] = rows[i * d + j];
    }
    return {};
}

}  // namespace turboquant::cuda
