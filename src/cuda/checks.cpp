#include "cuda/checks.hpp"

#include <algorithm>
#include <cmath>

#include "core/counter_rng.hpp"
#include "core/layout.hpp"
#include "core/paley.hpp"
#include "cuda/attend/policy.hpp"
#include "cuda/head_dims.hpp"
#include "cuda/overlay/tables.hpp"
#include "cuda/plain/tables.hpp"

namespace turboquant::cuda {
namespace {

std::string given(const char* name, std::int64_t value) { return std::string(name) + " is " + std::to_string(value); }

Status check_stride(const char* name, std::int64_t value, int multiple, const char* unit) {
    if (value > 0 && value % multiple == 0) return {};
    return invalid_argument(given(name, value) + "; it must be a positive multiple of " + std::to_string(multiple) + " " + unit);
}

Status check_pointer(const char* name, const void* pointer, std::uintptr_t alignment) {
    if (!pointer) return invalid_argument(std::string(name) + " is null");
    if (reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0) return {};
    return invalid_argument(std::string(name) + " is not aligned to " + std::to_string(alignment) + " bytes");
}

}  // namespace

Status validate(const PageSpec& spec) {
    const int d = spec.head_dim;
    if (std::ranges::find(HeadDims::kAll, d) == HeadDims::kAll.end()) {
        std::string all;
        for (int known : HeadDims::kAll) all += (all.empty() ? "" : ", ") + std::to_string(known);
        return invalid_argument(given("head_dim", d) + "; supported on the GPU: " + all);
    }
    if (!page_has_bits(spec.key_bits)) return invalid_argument(given("key_bits", spec.key_bits) + "; supported on the GPU: 2, 3, 4, 8");
    if (!page_has_bits(spec.value_bits)) return invalid_argument(given("value_bits", spec.value_bits) + "; supported on the GPU: 2, 3, 4, 8");
    if (spec.key_estimator != Estimator::mse && spec.key_estimator != Estimator::prod) return invalid_argument(given("key_estimator", static_cast<int>(spec.key_estimator)) + "; supported: mse (0), prod (1)");
    if (spec.sketch != Sketch::gaussian && spec.sketch != Sketch::orthogonal) return invalid_argument(given("sketch", static_cast<int>(spec.sketch)) + "; supported: gaussian (0), orthogonal (1)");
    if (spec.value_scheme != ValueScheme::rotated && spec.value_scheme != ValueScheme::group) return invalid_argument(given("value_scheme", static_cast<int>(spec.value_scheme)) + "; supported: rotated (0), group (1)");
    if (spec.key_estimator == Estimator::prod) {
        if (spec.key_bits > 4) return invalid_argument(given("key_bits", spec.key_bits) + "; with key_estimator prod it can be 2, 3 or 4, the sign counted");
        if (spec.centred_keys) return invalid_argument("key_estimator prod needs centred_keys off: its keys are coded one by one, without a reference");
    }
    if (spec.value_scheme == ValueScheme::group && spec.value_bits != 2 && spec.value_bits != 4) {
        return invalid_argument(given("value_bits", spec.value_bits) + "; with value_scheme group it can be 2 or 4");
    }
    return {};
}

std::size_t blob_bytes(const PageSpec& spec) { return uses_records(spec) ? record_page(spec).blob_bytes() : page_layout(spec).blob_bytes(); }

Status check_no_records(const PageSpec& spec, const char* verb) {
    if (!uses_records(spec)) return {};
    return unsupported(std::string(verb) + " does not serve pages of records (key_estimator prod, value_scheme group, trellis_codes of 2 to 4 bits); append, attend and copy_pages do");
}

static Status check_overlay(const PagedCache& cache);

Status check_cache(const PagedCache& cache) {
    if (Status s = validate(cache.spec); !s.ok()) return s;
    if (cache.kv_heads < 1 || cache.kv_heads > 1024) return invalid_argument(given("kv_heads", cache.kv_heads) + "; supported: 1 to 1024");
    if (Status s = check_pointer("pages", cache.pages, 128); !s.ok()) return s;
    const std::int64_t blob = static_cast<std::int64_t>(blob_bytes(cache.spec));
    for (const auto& [name, stride] : {std::pair{"page_stride", cache.page_stride}, std::pair{"head_stride", cache.head_stride}}) {
        if (Status s = check_stride(name, stride, 128, "bytes"); !s.ok()) return s;
        if (stride < blob) return invalid_argument(given(name, stride) + "; a blob has " + std::to_string(blob) + " bytes");
        if (stride / 128 > 0xffffffffll) return invalid_argument(given(name, stride) + "; supported: below 2^39");
    }
    return check_overlay(cache);
}

static Status check_overlay_size(int num_pages, int num_slots) {
    if (num_slots < 1 || num_slots > kMaxSlots) return invalid_argument(given("overlay.num_slots", num_slots) + "; supported: 0 (no overlay) to 1048576");
    if (num_pages < 1) return invalid_argument(given("overlay.num_pages", num_pages) + "; it must be the number of the cache's pages");
    return {};
}

static Status check_overlay(const PagedCache& cache) {
    if (cache.overlay.num_slots == 0) return {};
    if (uses_records(cache.spec)) return unsupported("overlay.num_slots is " + std::to_string(cache.overlay.num_slots) + "; pages of records have no overlay: set it to 0");
    if (Status s = check_overlay_size(cache.overlay.num_pages, cache.overlay.num_slots); !s.ok()) return s;
    return check_pointer("overlay.memory", cache.overlay.memory, 256);
}

std::size_t overlay_scratch(const PageSpec& spec, int query_heads, std::int64_t tokens) {
    if (query_heads <= 0 || tokens <= 0) return 0;
    return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(query_heads) * (static_cast<std::size_t>(spec.head_dim) + 1) * 4;
}

Result<Workspace> overlay_memory(const PageSpec& spec, int kv_heads, int num_pages, int num_slots) {
    if (Status s = validate(spec); !s.ok()) return s;
    if (kv_heads < 1 || kv_heads > 1024) return invalid_argument(given("kv_heads", kv_heads) + "; supported: 1 to 1024");
    if (num_slots == 0) return Workspace{};
    if (Status s = check_overlay_size(num_pages, num_slots); !s.ok()) return s;
    const OverlayLayout layout{num_pages, num_slots};
    return Workspace{layout.rows_offset() + static_cast<std::size_t>(num_slots) * OverlayLayout::slot_bytes(kv_heads, spec.head_dim), layout.rows_offset()};
}

// Where codes are made or attended to, a copy does without.
static Status check_sketch(const PagedCache& cache) { return sketch_table_bytes(cache.spec) > 0 ? check_pointer("sketch_table", cache.sketch_table, 4) : Status{}; }

Status check_group(int kv_heads, int query_heads, int num_queries) {
    if (kv_heads < 1 || query_heads < kv_heads || query_heads % kv_heads != 0 || query_heads / kv_heads > kMaxGroup) {
        return invalid_argument(given("query_heads", query_heads) + "; it must be kv_heads (" + std::to_string(kv_heads) + ") times a group of 1 to 128");
    }
    if (num_queries < 1 || num_queries > kMaxQueries) return invalid_argument(given("num_queries", num_queries) + "; supported: 1 to 16");
    return {};
}

static Status check_scratch(const PagedCache& cache, const AttendArgs& args) {
    if (cache.overlay.num_slots == 0) return {};
    if (Status s = check_pointer("scratch", args.scratch, 256); !s.ok()) return s;
    const std::size_t needed = overlay_scratch(cache.spec, args.query_heads, args.query_start ? 1 : static_cast<std::int64_t>(args.batch) * args.num_queries);
    if (args.scratch_bytes < needed) {
        return invalid_argument("scratch_bytes is " + std::to_string(args.scratch_bytes) + "; with an overlay this call needs " + std::to_string(needed) + (args.query_start ? " per token" : ""));
    }
    return {};
}

Status check_attend(const PagedCache& cache, const AttendArgs& args) {
    if (Status s = check_cache(cache); !s.ok()) return s;
    if (Status s = check_group(cache.kv_heads, args.query_heads, args.num_queries); !s.ok()) return s;
    if (args.batch < 0 || args.batch > kMaxBatch) return invalid_argument(given("batch", args.batch) + "; supported: 0 to 1024");
    if (args.query_number != Number::bf16 && args.query_number != Number::fp16) {
        return invalid_argument("query_number is neither bf16 nor fp16; supported: these two");
    }
    if (args.output_number != Number::bf16 && args.output_number != Number::fp16 && args.output_number != Number::fp32) {
        return invalid_argument(given("output_number", static_cast<int>(args.output_number)) + "; supported: bf16, fp16, fp32");
    }
    if (!(args.scale > 0) || !std::isfinite(args.scale)) return invalid_argument("scale is " + std::to_string(args.scale) + "; it must be positive and finite");
    if (!(args.softcap >= 0) || !std::isfinite(args.softcap)) return invalid_argument("softcap is " + std::to_string(args.softcap) + "; it must be 0 or positive");
    if (args.window < 0) return invalid_argument(given("window", args.window) + "; it must be 0 (none) or positive");
    if (args.start < Start::after || args.start > Start::overlapped_tables) return invalid_argument(given("start", static_cast<int>(args.start)) + "; supported: 0, 1, 2");
    if (args.batch == 0) return {};
    if (Status s = check_sketch(cache); !s.ok()) return s;
    if (Status s = check_pointer("query", args.query, 16); !s.ok()) return s;
    if (Status s = check_pointer("output", args.output, 4); !s.ok()) return s;
    if (Status s = check_pointer("lengths", args.lengths, 4); !s.ok()) return s;
    if (Status s = check_pointer("block_table", args.block_table, 4); !s.ok()) return s;
    if (Status s = check_stride("query_token_stride", args.query_token_stride, 8, "numbers"); !s.ok()) return s;
    if (Status s = check_stride("query_head_stride", args.query_head_stride, 8, "numbers"); !s.ok()) return s;
    if (Status s = check_stride("output_token_stride", args.output_token_stride, 1, "numbers"); !s.ok()) return s;
    if (Status s = check_stride("output_head_stride", args.output_head_stride, 1, "numbers"); !s.ok()) return s;
    if (args.table_stride < 1) return invalid_argument(given("table_stride", args.table_stride) + "; it must be positive");
    return check_scratch(cache, args);
}

Status check_prefill(const PagedCache& cache, const AttendArgs& args) {
    if (Status s = check_cache(cache); !s.ok()) return s;
    if (Status s = check_no_records(cache.spec, "prefill"); !s.ok()) return s;
    if (args.query_heads < cache.kv_heads || args.query_heads % cache.kv_heads != 0) {
        return invalid_argument(given("query_heads", args.query_heads) + "; it must be a multiple of kv_heads (" + std::to_string(cache.kv_heads) + ")");
    }
    const std::int64_t group = args.query_heads / cache.kv_heads;
    if (args.num_queries < 1 || args.num_queries * group > 0x7fffffff) {
        return invalid_argument(given("num_queries", args.num_queries) + "; supported: from 1 on, times the group (" + std::to_string(group) + ") below 2^31");
    }
    if (args.start == Start::overlapped_tables) return invalid_argument("start is 2; supported for prefill: 0 and 1");
    AttendArgs rest = args;  // as for attend, whose limits on rows do not matter here
    rest.query_heads = cache.kv_heads;
    rest.num_queries = 1;
    if (Status s = check_attend(cache, rest); !s.ok()) return s;
    if (args.batch == 0) return {};
    if (Status s = check_pointer("output", args.output, 16); !s.ok()) return s;
    if (Status s = check_stride("output_token_stride", args.output_token_stride, 8, "numbers"); !s.ok()) return s;
    if (Status s = check_stride("output_head_stride", args.output_head_stride, 8, "numbers"); !s.ok()) return s;
    return check_scratch(cache, args);
}

static Status check_rope(const Rope& rope, int head_dim) {
    if (rope.style < RopeStyle::none || rope.style > RopeStyle::interleaved) {
        return invalid_argument(given("rope.style", static_cast<int>(rope.style)) + "; supported: none (0), half_split (1), interleaved (2)");
    }
    if (rope.style == RopeStyle::none) return {};
    if (rope.rotary_dim < 2 || rope.rotary_dim % 2 != 0 || rope.rotary_dim > head_dim) {
        return invalid_argument(given("rope.rotary_dim", rope.rotary_dim) + "; it must be even, from 2 to head_dim (" + std::to_string(head_dim) + ")");
    }
    if (rope.max_position < 1 || rope.max_position > 0x7fffffff) return invalid_argument(given("rope.max_position", rope.max_position) + "; supported: 1 to 2^31 - 1");
    if (rope.position_stride < rope.rotary_dim / 2) {
        return invalid_argument(given("rope.position_stride", rope.position_stride) + "; a row of the tables has " + std::to_string(rope.rotary_dim / 2) + " numbers");
    }
    if (rope.position_bytes != 4 && rope.position_bytes != 8) return invalid_argument(given("rope.position_bytes", rope.position_bytes) + "; supported: 4 (int32), 8 (int64)");
    if (Status s = check_pointer("rope.cosines", rope.cosines, 4); !s.ok()) return s;
    if (Status s = check_pointer("rope.sines", rope.sines, 4); !s.ok()) return s;
    return check_pointer("rope.positions", rope.positions, static_cast<std::uintptr_t>(rope.position_bytes));
}

Status check_append(const PagedCache& cache, const AppendArgs& args) {
    if (Status s = check_cache(cache); !s.ok()) return s;
    if (args.tokens < 0) return invalid_argument(given("tokens", args.tokens) + "; it must not be negative");
    if (args.tokens == 0) return {};
    if (Status s = check_sketch(cache); !s.ok()) return s;
    const std::uintptr_t size = args.number == Number::fp32 ? 4 : 2;
    if (args.number < Number::bf16 || args.number > Number::fp32) return invalid_argument(given("number", static_cast<int>(args.number)) + "; supported: bf16, fp16, fp32");
    if (Status s = check_pointer("keys", args.keys, size); !s.ok()) return s;
    if (Status s = check_pointer("values", args.values, size); !s.ok()) return s;
    if (Status s = check_pointer("slots", args.slots, 8); !s.ok()) return s;
    if (Status s = check_stride("key_token_stride", args.key_token_stride, 1, "numbers"); !s.ok()) return s;
    if (Status s = check_stride("key_head_stride", args.key_head_stride, 1, "numbers"); !s.ok()) return s;
    if (Status s = check_stride("value_token_stride", args.value_token_stride, 1, "numbers"); !s.ok()) return s;
    if (Status s = check_stride("value_head_stride", args.value_head_stride, 1, "numbers"); !s.ok()) return s;
    if (args.start != Start::after && args.start != Start::overlapped) {
        return invalid_argument(given("start", static_cast<int>(args.start)) + "; supported for append: 0 and 1, since it reads what the kernel before wrote");
    }
    if (Status s = check_rope(args.rope, cache.spec.head_dim); !s.ok()) return s;
    if (uses_records(cache.spec) && args.rope.style != RopeStyle::none) {
        return unsupported(given("rope.style", static_cast<int>(args.rope.style)) + "; pages of records take keys that have been turned: set it to none (0)");
    }
    if (args.batch < 0) return invalid_argument(given("batch", args.batch) + "; it must not be negative");
    if (args.batch == 0 && cache.overlay.num_slots > 0) return invalid_argument("batch is 0; with an overlay query_start, lengths and block_table of all sequences are needed");
    if (args.batch == 0) return {};
    if (Status s = check_pointer("query_start", args.query_start, 4); !s.ok()) return s;
    if (Status s = check_pointer("lengths", args.lengths, 4); !s.ok()) return s;
    if (Status s = check_pointer("block_table", args.block_table, 4); !s.ok()) return s;
    if (args.table_stride < 1) return invalid_argument(given("table_stride", args.table_stride) + "; it must be positive");
    return {};
}

std::size_t image_bytes(const PageSpec& spec, Layout layout) {
    if (layout == Layout::rows) return kPageTokens * RowLayout{spec.head_dim, spec.key_bits, spec.value_bits}.record_bytes();
    return TileLayout{Side::key, spec.head_dim, spec.key_bits}.blob_bytes() + TileLayout{Side::value, spec.head_dim, spec.value_bits}.blob_bytes();
}

static Status check_list(const PageList& list, int kv_heads) {
    if (list.num < 0 || static_cast<std::int64_t>(list.num) * kv_heads > 0x7fffffff) {
        return invalid_argument(given("num", list.num) + "; supported: from 0 on, times kv_heads below 2^31");
    }
    if (list.start != Start::after && list.start != Start::overlapped) {
        return invalid_argument(given("start", static_cast<int>(list.start)) + "; supported for pages: 0 and 1, since what the kernel before wrote is read");
    }
    if (reinterpret_cast<std::uintptr_t>(list.source) % 4 != 0) return invalid_argument("source is not aligned to 4 bytes");
    if (reinterpret_cast<std::uintptr_t>(list.destination) % 4 != 0) return invalid_argument("destination is not aligned to 4 bytes");
    return {};
}

Status check_copy(const PagedCache& from, const PagedCache& to, const PageList& list) {
    if (Status s = check_cache(from); !s.ok()) return s;
    if (Status s = check_cache(to); !s.ok()) return s;
    const PageSpec &a = from.spec, &b = to.spec;
    if (a.head_dim != b.head_dim || a.key_bits != b.key_bits || a.value_bits != b.value_bits || a.seed != b.seed || a.trellis_codes != b.trellis_codes ||
        a.key_estimator != b.key_estimator || a.sketch != b.sketch || a.value_scheme != b.value_scheme) {
        return invalid_argument("the two caches' specs differ in head_dim, bits, seed or kind of codes; codes can only be copied between equal ones");
    }
    if (from.kv_heads != to.kv_heads) {
        return invalid_argument(given("kv_heads", to.kv_heads) + " where pages go and " + std::to_string(from.kv_heads) + " where they come from; they must be equal");
    }
    return check_list(list, from.kv_heads);
}

Status check_forget(const PagedCache& cache, const PageList& list) {
    if (Status s = check_cache(cache); !s.ok()) return s;
    return check_list(list, 1);
}

Status check_images(const PagedCache& cache, const PageImages& images, const PageList& list) {
    if (Status s = check_cache(cache); !s.ok()) return s;
    if (Status s = check_no_records(cache.spec, "converting pages"); !s.ok()) return s;
    if (images.layout != Layout::rows && images.layout != Layout::simd64) {
        return invalid_argument(given("layout", static_cast<int>(images.layout)) + "; supported: rows (0), simd64 (1)");
    }
    if (Status s = check_pointer("data", images.data, 2); !s.ok()) return s;
    const std::int64_t bytes = static_cast<std::int64_t>(image_bytes(cache.spec, images.layout));
    for (const auto& [name, stride] : {std::pair{"page_stride", images.page_stride}, std::pair{"head_stride", images.head_stride}}) {
        if (Status s = check_stride(name, stride, 2, "bytes"); !s.ok()) return s;
        if (stride < bytes) return invalid_argument(given(name, stride) + "; one page and head have " + std::to_string(bytes) + " bytes in this layout");
    }
    if (images.references && images.layout == Layout::simd64) return invalid_argument("references is given; key tiles of simd64 hold their own: it must be null");
    if (reinterpret_cast<std::uintptr_t>(images.references) % 2 != 0) return invalid_argument("references is not aligned to 2 bytes");
    return check_list(list, cache.kv_heads);
}

RotationBits rotation_bits(int head_dim, std::uint64_t seed, std::uint64_t stream, bool transposed) {
    RotationBits bits{};
    for (int w = 0; w < (head_dim + 63) / 64; ++w) {
        std::uint64_t word = counter_word(seed, stream, w);
        if (64 * w + 64 > head_dim) word &= (1ull << (head_dim % 64)) - 1;
        bits.sign[2 * w] = static_cast<std::uint32_t>(word);
        bits.sign[2 * w + 1] = static_cast<std::uint32_t>(word >> 32);
    }
    const int power = head_dim & -head_dim;
    const PaleyBits paley = paley_bits(head_dim == power ? 1 : 4 * (head_dim / power));
    for (int i = 0; i < paley.order; ++i) {
        for (int a = 0; a < paley.order; ++a) bits.paley[transposed ? a : i] |= (paley.row[i] >> a & 1) << (transposed ? i : a);
    }
    return bits;
}

float rotation_norm(int head_dim) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim))); }

}  // namespace turboquant::cuda
