// What the host decides before a kernel is launched: refusals that name the argument, and the shapes of kernels.
#include "cuda/checks.hpp"

#include <gtest/gtest.h>

#include "core/rotation.hpp"
#include "cuda/attend/policy.hpp"
#include "cuda/prefill/warp_policy.hpp"

namespace turboquant::cuda {
namespace {

struct Good {
    alignas(128) char memory[256];
    PagedCache cache;
    AttendArgs args;
    Good() {
        cache.kv_heads = 2;
        cache.pages = memory;
        cache.head_stride = 8704;
        cache.page_stride = 2 * 8704;
        args.batch = 3;
        args.query_heads = 8;
        args.query = args.output = memory;
        args.query_token_stride = args.output_token_stride = 8 * 128;
        args.query_head_stride = args.output_head_stride = 128;
        args.lengths = args.block_table = reinterpret_cast<const std::int32_t*>(memory);
        args.table_stride = 16;
        args.scale = 0.1f;
    }
    std::string refusal() const { return check_attend(cache, args).message(); }
};

TEST(CudaChecks, GoodArgumentsPass) { EXPECT_EQ(Good().refusal(), ""); }

#define EXPECT_REFUSED(change, words)                                              \
    {                                                                              \
        Good g;                                                                    \
        change;                                                                    \
        EXPECT_NE(g.refusal().find(words), std::string::npos) << g.refusal();      \
    }

TEST(CudaChecks, RefusalsNameTheArgument) {
    EXPECT_REFUSED(g.cache.spec.head_dim = 72, "head_dim is 72")
    EXPECT_REFUSED(g.cache.spec.key_bits = 5, "key_bits is 5")
    EXPECT_REFUSED(g.cache.head_stride = 8703, "head_stride is 8703")
    EXPECT_REFUSED(g.cache.head_stride = 128, "a blob has 8704 bytes")
    EXPECT_REFUSED(g.cache.pages = g.memory + 64, "pages is not aligned")
    EXPECT_REFUSED(g.args.query_heads = 7, "query_heads is 7")
    EXPECT_REFUSED(g.args.query_heads = 258, "query_heads is 258")
    EXPECT_REFUSED(g.args.num_queries = 17, "num_queries is 17")
    EXPECT_REFUSED(g.args.batch = 1025, "batch is 1025")
    EXPECT_REFUSED(g.args.query = nullptr, "query is null")
    EXPECT_REFUSED(g.args.query_token_stride = 1028, "query_token_stride is 1028")
    EXPECT_REFUSED(g.args.scale = 0, "scale is 0")
    EXPECT_REFUSED(g.args.softcap = -1, "softcap is -1")
    EXPECT_REFUSED(g.args.window = -1, "window is -1")
    EXPECT_REFUSED(g.args.query_number = Number::fp32, "query_number")
}

TEST(CudaChecks, RefusalsOfOverlaysNameTheArgument) {
    const auto with_overlay = [](Good& g) {
        static char memory[512];
        g.cache.overlay = {memory + (256 - reinterpret_cast<std::uintptr_t>(memory) % 256) % 256, 6, 100};
        g.args.scratch = g.cache.overlay.memory;
        g.args.scratch_bytes = overlay_scratch(g.cache.spec, 8, 3);
    };
    EXPECT_REFUSED(with_overlay(g), "")
    EXPECT_REFUSED((with_overlay(g), g.cache.overlay.num_slots = -1), "overlay.num_slots is -1")
    EXPECT_REFUSED((with_overlay(g), g.cache.overlay.num_slots = 1 << 21), "overlay.num_slots is 2097152")
    EXPECT_REFUSED((with_overlay(g), g.cache.overlay.num_pages = 0), "overlay.num_pages is 0")
    EXPECT_REFUSED((with_overlay(g), g.cache.overlay.memory = nullptr), "overlay.memory is null")
    EXPECT_REFUSED((with_overlay(g), g.args.scratch = nullptr), "scratch is null")
    EXPECT_REFUSED((with_overlay(g), g.args.scratch_bytes -= 1), "scratch_bytes is 12383; with an overlay this call needs 12384")
    Good g;
    with_overlay(g);
    EXPECT_EQ(g.refusal(), "");
    EXPECT_EQ(check_prefill(g.cache, g.args).message(), "");
    g.args.num_queries = 2;
    EXPECT_NE(check_prefill(g.cache, g.args).message().find("this call needs 24768"), std::string::npos);
    AppendArgs append;
    append.tokens = 1;
    append.keys = append.values = g.memory;
    append.slots = reinterpret_cast<const std::int64_t*>(g.memory);
    append.key_token_stride = append.key_head_stride = append.value_token_stride = append.value_head_stride = 128;
    EXPECT_NE(check_append(g.cache, append).message().find("batch is 0; with an overlay"), std::string::npos);
    EXPECT_EQ(overlay_memory(g.cache.spec, 2, 100, 0).value().bytes, 0u);
    const Workspace memory = overlay_memory(g.cache.spec, 2, 100, 6).value();
    EXPECT_EQ(memory.bytes - memory.zeroed, 6u * 2 * 2 * 64 * 128 * 2);
    EXPECT_EQ(memory.zeroed % 256, 0u);
}

TEST(CudaChecks, PrefillTakesMoreRows) {
    const auto refusal = [](auto&& change) {
        Good g;
        change(g);
        return check_prefill(g.cache, g.args).message();
    };
    EXPECT_EQ(refusal([](Good& g) { g.args.num_queries = 5000, g.args.query_heads = 80; }), "");
    EXPECT_NE(refusal([](Good& g) { g.args.num_queries = 0; }).find("num_queries is 0"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.args.num_queries = 0x40000000; }).find("below 2^31"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.args.query_heads = 9; }).find("query_heads is 9"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.args.start = Start::overlapped_tables; }).find("start is 2"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.args.query = nullptr; }).find("query is null"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.args.output = static_cast<std::uint8_t*>(g.args.output) + 8; }).find("output is not aligned to 16"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.args.output_token_stride = 1028; }).find("output_token_stride is 1028"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.args.output_head_stride = 132; }).find("output_head_stride is 132"), std::string::npos);
    EXPECT_NE(refusal([](Good& g) { g.cache.spec.head_dim = 72; }).find("head_dim is 72"), std::string::npos);
}

TEST(CudaChecks, PagesOfRecords) {
    const auto paper = [](Good& g) {
        g.cache.spec.key_bits = 3;
        g.cache.spec.value_bits = 2;
        g.cache.spec.centred_keys = false;
        g.cache.spec.key_estimator = Estimator::prod;
        g.cache.spec.value_scheme = ValueScheme::group;
        g.cache.sketch_table = reinterpret_cast<const float*>(g.memory);
    };
    const auto refusal = [&](auto&& change) {
        Good g;
        paper(g);
        change(g);
        return g.refusal();
    };
    const auto contains = [](const std::string& text, const char* words) { return text.find(words) != std::string::npos; };
    EXPECT_EQ(refusal([](Good&) {}), "");
    EXPECT_TRUE(contains(refusal([](Good& g) { g.cache.sketch_table = nullptr; }), "sketch_table is null"));
    EXPECT_EQ(refusal([](Good& g) { g.cache.sketch_table = nullptr, g.cache.spec.sketch = Sketch::orthogonal; }), "");
    EXPECT_TRUE(contains(refusal([](Good& g) { g.cache.spec.centred_keys = true; }), "centred_keys off"));
    EXPECT_TRUE(contains(refusal([](Good& g) { g.cache.spec.key_bits = 8; }), "key_bits is 8; with key_estimator prod"));
    EXPECT_TRUE(contains(refusal([](Good& g) { g.cache.spec.value_bits = 3; }), "value_bits is 3; with value_scheme group"));
    EXPECT_TRUE(contains(refusal([](Good& g) { g.cache.spec.sketch = static_cast<Sketch>(9); }), "sketch is 9"));
    EXPECT_TRUE(contains(refusal([](Good& g) { g.cache.head_stride = 6272; }), "a blob has 6400 bytes"));
    EXPECT_TRUE(contains(refusal([](Good& g) { g.cache.overlay.num_slots = 4; }), "pages of records have no overlay"));
    Good g;
    EXPECT_FALSE(uses_records(g.cache.spec));
    g.cache.spec.trellis_codes = true;
    EXPECT_TRUE(uses_records(g.cache.spec));
    EXPECT_EQ(g.refusal(), "");  // 64 * (66 + 66) + 256 bytes: as many as mma64
    EXPECT_TRUE(contains(check_prefill(g.cache, g.args).message(), "prefill does not serve pages of records"));
    g.cache.spec.key_bits = g.cache.spec.value_bits = 8;
    EXPECT_FALSE(uses_records(g.cache.spec));  // codes of 8 bits follow no trellis
    paper(g);
    PagedCache to = g.cache;
    to.sketch_table = nullptr;
    EXPECT_EQ(check_copy(g.cache, to, {}).message(), "");
    to.spec.sketch = Sketch::orthogonal;
    EXPECT_TRUE(contains(check_copy(g.cache, to, {}).message(), "specs differ"));
    PageImages images;
    images.data = g.memory;
    images.page_stride = images.head_stride = 1 << 20;
    EXPECT_TRUE(contains(check_images(g.cache, images, {}).message(), "converting pages does not serve"));
}

template <int D>
void check_prefill_shape() {
    using Shape = PrefillShape<D>;
    for (int bits : {2, 3, 4, 8}) {
        const PageLayout layout{D, bits, bits};
        const std::size_t keys = (layout.keys().part_bytes() + 127) / 128 * 128, values = (layout.values().part_bytes() + 127) / 128 * 128;
        EXPECT_GE(Shape::slots(keys, values), 1);
        EXPECT_LE(Shape::shared_bytes(keys, values), kSharedLimit);
    }
    EXPECT_EQ(Shape::kRing % 128, 0u);
}

TEST(PrefillPolicy, EveryShapeFits) {
    check_prefill_shape<64>();
    check_prefill_shape<80>();
    check_prefill_shape<96>();
    check_prefill_shape<112>();
    check_prefill_shape<128>();
    check_prefill_shape<192>();
    check_prefill_shape<256>();
}

TEST(CudaChecks, RefusalsOfRopeNameTheArgument) {
    const auto append = [](auto&& change, bool records = false) {
        Good g;
        g.cache.spec.trellis_codes = records;
        AppendArgs args;
        args.tokens = 3;
        args.keys = args.values = g.memory;
        args.key_token_stride = args.key_head_stride = args.value_token_stride = args.value_head_stride = 128;
        args.slots = reinterpret_cast<const std::int64_t*>(g.memory);
        args.rope = {RopeStyle::interleaved, 128, reinterpret_cast<const float*>(g.memory), reinterpret_cast<const float*>(g.memory), 64, 4096, g.memory, 8};
        change(args.rope);
        return check_append(g.cache, args).message();
    };
    EXPECT_EQ(append([](Rope&) {}), "");
    EXPECT_EQ(append([](Rope& rope) { rope = {}; }), "");
    EXPECT_EQ(append([](Rope& rope) { rope = {}; }, true), "");
    EXPECT_NE(append([](Rope&) {}, true).find("rope.style is 2; pages of records take keys that have been turned"), std::string::npos);
    EXPECT_NE(append([](Rope& rope) { rope.style = static_cast<RopeStyle>(3); }).find("rope.style is 3"), std::string::npos);
    for (int rotary_dim : {0, 63, 130}) {
        EXPECT_NE(append([&](Rope& rope) { rope.rotary_dim = rotary_dim; }).find("rope.rotary_dim is " + std::to_string(rotary_dim)), std::string::npos);
    }
    EXPECT_NE(append([](Rope& rope) { rope.max_position = 0; }).find("rope.max_position is 0"), std::string::npos);
    EXPECT_NE(append([](Rope& rope) { rope.position_stride = 63; }).find("rope.position_stride is 63"), std::string::npos);
    EXPECT_NE(append([](Rope& rope) { rope.position_bytes = 2; }).find("rope.position_bytes is 2"), std::string::npos);
    EXPECT_NE(append([](Rope& rope) { rope.sines = nullptr; }).find("rope.sines is null"), std::string::npos);
    EXPECT_NE(append([](Rope& rope) { rope.positions = reinterpret_cast<const char*>(rope.positions) + 4; }).find("rope.positions is not aligned to 8"), std::string::npos);
}

TEST(CudaChecks, RefusalsOfPageVerbsNameTheArgument) {
    const auto copy = [](auto&& change) {
        Good g;
        PagedCache to = g.cache;
        PageList list;
        list.num = 3;
        change(to, list);
        return check_copy(g.cache, to, list).message();
    };
    const auto images = [](auto&& change) {
        Good g;
        PageImages flat;
        flat.data = g.memory;
        flat.head_stride = flat.page_stride = 1 << 20;
        PageList list;
        list.num = 3;
        change(flat, list);
        return check_images(g.cache, flat, list).message();
    };
    EXPECT_EQ(copy([](auto&, auto&) {}), "");
    EXPECT_NE(copy([](auto& to, auto&) { to.kv_heads = 3; }).find("kv_heads is 3"), std::string::npos);
    EXPECT_NE(copy([](auto& to, auto&) { to.spec.value_bits = 2; }).find("specs differ"), std::string::npos);
    EXPECT_NE(copy([](auto&, auto& list) { list.num = -1; }).find("num is -1"), std::string::npos);
    EXPECT_NE(copy([](auto&, auto& list) { list.start = Start::overlapped_tables; }).find("start is 2"), std::string::npos);
    EXPECT_EQ(images([](auto&, auto&) {}), "");
    EXPECT_NE(images([](auto& flat, auto&) { flat.layout = static_cast<Layout>(7); }).find("layout is 7"), std::string::npos);
    EXPECT_NE(images([](auto& flat, auto&) { flat.head_stride = 8446; }).find("8448 bytes"), std::string::npos);
    EXPECT_NE(images([](auto& flat, auto&) { flat.page_stride = 1 << 20 | 1; }).find("page_stride"), std::string::npos);
    EXPECT_NE(images([](auto& flat, auto&) { flat.data = nullptr; }).find("data is null"), std::string::npos);
    EXPECT_NE(images([](auto& flat, auto&) { flat.layout = Layout::simd64, flat.references = flat.data; }).find("references"), std::string::npos);
}

template <int K, int V, int R, int D, Target kTarget>
void check_shape() {
    using Shape = AttendShape<K, V, R, D, kTarget>;
    constexpr std::size_t kStatic = 1536;  // static arrays of the kernel: segments, sharing, scratch of the plan
    EXPECT_LE(Shape::shared_bytes(kMaxBatch) + (kTarget == Target::sm90 ? 6 * 1024 : kStatic), shared_limit(kTarget));
    EXPECT_GE(Shape::kWarps, kTarget == Target::sm90 ? 4 : 3);
    EXPECT_GE(Shape::kSlots, 1);
    EXPECT_EQ(Shape::kCopies, kTarget == Target::sm80 || kTarget == Target::sm86 ? Copies::async : Copies::bulk);
    EXPECT_GE(Shape::kSlot, Shape::kKeyPart);
    EXPECT_GE(Shape::kSlot, Shape::kValuePart);
    EXPECT_EQ(Shape::kSlot % 128, 0u);
    EXPECT_EQ(Shape::warp_bytes() % 128, 0u);
}
template <int K, int V, int D, Target kTarget>
void check_rows() {
    check_shape<K, V, 4, D, kTarget>();
    check_shape<K, V, 8, D, kTarget>();
    check_shape<K, V, 16, D, kTarget>();
}
template <int K, int V, int D>
void check_shapes() {
    check_rows<K, V, D, Target::sm80>();
    check_rows<K, V, D, Target::sm86>();
    check_rows<K, V, D, Target::sm90>();
    check_rows<K, V, D, Target::sm120>();
}

TEST(AttendPolicy, EveryShapeFits) {
    check_shapes<4, 4, 64>();
    check_shapes<3, 2, 80>();
    check_shapes<4, 4, 96>();
    check_shapes<2, 8, 112>();
    check_shapes<4, 4, 128>();
    check_shapes<3, 2, 128>();
    check_shapes<8, 8, 128>();
    check_shapes<8, 4, 192>();
    check_shapes<4, 4, 256>();
    check_shapes<8, 8, 256>();
}

TEST(AttendPolicy, FastestWarpsOfTheProbe) {
    EXPECT_EQ((AttendShape<4, 4, 4, 128>::kWarps), 8);
    EXPECT_EQ((AttendShape<3, 2, 8, 128>::kWarps), 12);
    EXPECT_EQ((AttendShape<4, 4, 4, 128, Target::sm80>::kWarps), 8);
    EXPECT_EQ((AttendShape<3, 2, 8, 128, Target::sm80>::kWarps), 12);
    EXPECT_EQ(rows_for(4, 1), 4);
    EXPECT_EQ(rows_for(4, 2), 8);
    EXPECT_EQ(rows_for(5, 1), 8);
    EXPECT_EQ(rows_for(16, 16), 16);
}

TEST(AttendPolicy, FollowsTheDevicesLimit) {
    const AttendNeeds needs{8, 2, 4480, 2176, 1024};  // k4v4 of head_dim 128, four rows
    const auto fit = [&](std::size_t kilobytes) { return fit_warps(needs, kilobytes * 1024); };
    EXPECT_EQ(fit(227).warps, 8);
    EXPECT_TRUE(fit(227).staged);
    EXPECT_EQ(fit(163).warps, 8);
    EXPECT_EQ(fit(99).warps, 8);
    EXPECT_FALSE(fit(99).staged);
    const AttendNeeds wide{8, 2, 17024, 16640, 8192};  // k8v8 of head_dim 256, sixteen rows: one slot, rather than one warp
    EXPECT_EQ(fit_warps(wide, shared_limit(Target::sm86)).slots, 1);
    EXPECT_EQ(fit_warps(wide, shared_limit(Target::sm86)).warps, 3);
    int last = 0;
    for (std::size_t kilobytes = 64; kilobytes <= 227; ++kilobytes) {  // more memory, not fewer warps
        const AttendFit now = fit(kilobytes);
        EXPECT_GE(now.warps, last) << kilobytes;
        last = now.warps;
    }
}

template <int D, Target kTarget>
void check_prefill_shape() {
    using Shape = WarpPrefillShape<D, kTarget>;
    for (int key_bits : {2, 3, 4, 8}) {
        for (int value_bits : {2, 3, 4, 8}) {
            const PageLayout layout{D, key_bits, value_bits};
            const auto slot = [&](Side side) { return (layout.of(side).part_bytes() + 127) / 128 * 128; };
            EXPECT_LE(Shape::shared_bytes(slot(Side::key), slot(Side::value)), shared_limit(kTarget)) << D << " " << static_cast<int>(kTarget);
        }
    }
    EXPECT_EQ(Shape::kRows, 16 * Shape::kRowTiles * Shape::kWarps);
    EXPECT_TRUE(Shape::kDecoders == 4 || Shape::kDecoders == 8);  // tiles.cuh
    EXPECT_LE(4 * 8 * static_cast<std::size_t>(Shape::D) * 4, Shape::kQueryTile);  // four warps' results of eight rows lie where their queries were
}
template <int D>
void check_prefill_targets() {
    check_prefill_shape<D, Target::sm80>();
    check_prefill_shape<D, Target::sm86>();
    check_prefill_shape<D, Target::sm90>();
    check_prefill_shape<D, Target::sm120>();
}

TEST(WarpPrefillPolicy, EveryShapeFits) {
    check_prefill_targets<64>();
    check_prefill_targets<80>();
    check_prefill_targets<96>();
    check_prefill_targets<112>();
    check_prefill_targets<128>();
    check_prefill_targets<192>();
    check_prefill_targets<256>();
    EXPECT_EQ((WarpPrefillShape<128, Target::sm86>::kRows), 128);
    EXPECT_EQ((WarpPrefillShape<256, Target::sm80>::kRows), 128);
    EXPECT_EQ((WarpPrefillShape<256, Target::sm86>::kRows), 64);  // with more, queries would not fit
}

TEST(Target, EveryDeviceHasOne) {
    EXPECT_EQ(target_of(7, 5), std::nullopt);
    const struct {
        int architecture;
        Target target;
    } built[] = {TQ_CUDA_TARGETS};  // how CMake builds for them
    for (const auto& [architecture, target] : built) EXPECT_EQ(target_of(architecture / 10, architecture % 10), target) << architecture;
    EXPECT_EQ(target_of(8, 0), Target::sm80);
    EXPECT_EQ(target_of(8, 6), Target::sm86);
    EXPECT_EQ(target_of(8, 7), Target::sm80);
    EXPECT_EQ(target_of(8, 9), Target::sm86);
    EXPECT_EQ(target_of(9, 0), Target::sm90);
    EXPECT_EQ(target_of(10, 0), Target::sm90);
    EXPECT_EQ(target_of(10, 3), Target::sm90);
    EXPECT_EQ(target_of(12, 0), Target::sm120);
    EXPECT_EQ(target_of(12, 1), Target::sm120);
}

TEST(CudaChecks, RotationBitsAreTheTables) {
    for (int head_dim : {64, 80, 96, 112, 128, 192, 256}) {
        const auto tables = rotation_tables(head_dim, Rotation::hadamard, 7, Side::value);
        const RotationBits bits = rotation_bits(head_dim, 7, Side::value, false), transposed = rotation_bits(head_dim, 7, Side::value, true);
        for (int j = 0; j < 320; ++j) {
            EXPECT_EQ(bits.sign[j / 32] >> (j % 32) & 1, j < head_dim && tables->sign[j] < 0 ? 1u : 0u) << head_dim << " " << j;
        }
        for (int i = 0; i < tables->base; ++i) {
            for (int a = 0; a < tables->base; ++a) {
                EXPECT_EQ(bits.paley[i] >> a & 1, tables->paley[i * tables->base + a] < 0 ? 1u : 0u);
                EXPECT_EQ(transposed.paley[a] >> i & 1, bits.paley[i] >> a & 1);
            }
        }
        EXPECT_EQ(rotation_norm(head_dim), tables->norm);
    }
}

}  // namespace
}  // namespace turboquant::cuda
