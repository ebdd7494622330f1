// The C interface does what the C++ one does, and refuses with a message.
#include <cstddef>

#include "problem.hpp"
#include "turboquant/turboquant.h"

namespace turboquant::test {
namespace {

TEST(CApi, AttendsAndRefuses) {
    Problem problem({.page = {}, .kv_heads = 2, .group = 4, .lengths = {100, 700, 0}});
    const std::vector<float> want = problem.run();
    tq_page_spec spec{};
    spec.size = sizeof spec;
    spec.head_dim = 128;
    spec.key_bits = spec.value_bits = 4;
    spec.centred_keys = spec.gain_search = 1;
    char message[200];
    size_t bytes = 0, zeroed = 0;
    ASSERT_EQ(tq_blob_bytes(&spec, &bytes, message, sizeof message), TQ_OK);
    EXPECT_EQ(bytes, 8704u);
    ASSERT_EQ(tq_attend_workspace(&spec, 2, 8, 1, &bytes, &zeroed, message, sizeof message), TQ_OK);
    EXPECT_EQ(bytes, problem.args.workspace_bytes);
    tq_paged_cache cache{};
    cache.size = sizeof cache;
    cache.spec = &spec;
    cache.pages = problem.cache.pages;
    cache.page_stride = problem.cache.page_stride;
    cache.head_stride = problem.cache.head_stride;
    cache.kv_heads = 2;
    tq_attend_args args{};
    args.size = sizeof args;
    args.batch = 3;
    args.query_heads = 8;
    args.num_queries = 1;
    args.query = problem.args.query;
    args.output = problem.args.output;
    args.output_number = TQ_FP32;
    args.query_token_stride = args.output_token_stride = 8 * 128;
    args.query_head_stride = args.output_head_stride = 128;
    args.lengths = problem.args.lengths;
    args.block_table = problem.args.block_table;
    args.table_stride = problem.args.table_stride;
    args.scale = problem.args.scale;
    args.workspace = problem.args.workspace;
    args.workspace_bytes = bytes;
    TQ_CUDA_OK(cudaMemset(problem.args.output, 0xff, want.size() * 4));
    ASSERT_EQ(tq_attend(&cache, &args, nullptr, message, sizeof message), TQ_OK) << message;
    TQ_CUDA_OK(cudaDeviceSynchronize());
    const std::vector<float> got = problem.output();
    EXPECT_EQ(std::memcmp(got.data(), want.data(), 4 * want.size()), 0);

    args.size = sizeof args + 8;
    EXPECT_EQ(tq_attend(&cache, &args, nullptr, message, sizeof message), TQ_INVALID_ARGUMENT);
    EXPECT_NE(std::string(message).find("args.size"), std::string::npos);
    args.size = sizeof args;
    spec.trellis_codes = 1;
    EXPECT_EQ(tq_prefill(&cache, &args, nullptr, message, 12), TQ_UNSUPPORTED);
    EXPECT_EQ(std::string(message), "prefill doe");
}

TEST(CApi, OverlayIsTranslated) {
    tq_page_spec spec{};
    spec.size = sizeof spec;
    spec.head_dim = 128;
    spec.key_bits = spec.value_bits = 4;
    char message[200];
    size_t bytes = 0, zeroed = 0, scratch = 0;
    ASSERT_EQ(tq_overlay_memory(&spec, 2, 8, 3, &bytes, &zeroed, message, sizeof message), TQ_OK) << message;
    EXPECT_EQ(bytes - zeroed, 3u * 2 * 2 * 64 * 128 * 2);
    EXPECT_EQ(tq_overlay_memory(&spec, 2, 0, 3, &bytes, &zeroed, message, sizeof message), TQ_INVALID_ARGUMENT);
    EXPECT_NE(std::string(message).find("num_pages is 0"), std::string::npos);
    ASSERT_EQ(tq_overlay_scratch(&spec, 8, 5, &scratch, message, sizeof message), TQ_OK);
    EXPECT_EQ(scratch, 5u * 8 * 129 * 4);
    tq_overlay overlay{};
    overlay.size = sizeof overlay;
    overlay.num_slots = 3;
    overlay.num_pages = 8;
    tq_paged_cache cache{};
    cache.size = sizeof cache;
    cache.spec = &spec;
    cache.pages = reinterpret_cast<void*>(256);
    cache.page_stride = cache.head_stride = 8704;
    cache.kv_heads = 1;
    cache.overlay = &overlay;
    tq_page_list list{};
    list.size = sizeof list;
    list.num = 1;
    EXPECT_EQ(tq_forget_pages(&cache, &list, nullptr, message, sizeof message), TQ_INVALID_ARGUMENT);
    EXPECT_NE(std::string(message).find("overlay.memory is null"), std::string::npos);
    cache.size = offsetof(tq_paged_cache, reserved);  // compiled against an older header: no overlay
    EXPECT_EQ(tq_forget_pages(&cache, &list, nullptr, message, sizeof message), TQ_OK) << message;
}

TEST(CApi, ConvertsPages) {
    tq_page_spec spec{};
    spec.size = sizeof spec;
    spec.head_dim = 128;
    spec.key_bits = spec.value_bits = 4;
    char message[200];
    size_t blob = 0, image = 0;
    ASSERT_EQ(tq_blob_bytes(&spec, &blob, message, sizeof message), TQ_OK);
    ASSERT_EQ(tq_image_bytes(&spec, TQ_SIMD64, &image, message, sizeof message), TQ_OK);
    EXPECT_EQ(image, 8192u + 256 + 256);
    EXPECT_EQ(tq_image_bytes(&spec, static_cast<tq_layout>(5), &image, message, sizeof message), TQ_INVALID_ARGUMENT);
    std::vector<std::uint8_t> bytes(2 * blob);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 37 + i / 256);
    DeviceBuffer<std::uint8_t> pool(bytes), copied(2 * blob), images(2 * image);
    copied.fill(0);
    tq_paged_cache cache{};
    cache.size = sizeof cache;
    cache.spec = &spec;
    cache.pages = pool.get();
    cache.page_stride = cache.head_stride = static_cast<int64_t>(blob);
    cache.kv_heads = 1;
    tq_paged_cache other = cache;
    other.pages = copied.get();
    tq_page_images flat{};
    flat.size = sizeof flat;
    flat.layout = TQ_SIMD64;
    flat.data = images.get();
    flat.page_stride = flat.head_stride = static_cast<int64_t>(image);
    tq_page_list list{};
    list.size = sizeof list;
    list.num = 2;
    ASSERT_EQ(tq_export_pages(&cache, &flat, &list, nullptr, message, sizeof message), TQ_OK) << message;
    ASSERT_EQ(tq_import_pages(&flat, &other, &list, nullptr, message, sizeof message), TQ_OK) << message;
    TQ_CUDA_OK(cudaDeviceSynchronize());
    EXPECT_EQ(copied.host(), bytes);  // this shape has no byte that is not a code, a scale or a reference
    copied.fill(0);
    ASSERT_EQ(tq_copy_pages(&cache, &other, &list, nullptr, message, sizeof message), TQ_OK) << message;
    TQ_CUDA_OK(cudaDeviceSynchronize());
    EXPECT_EQ(copied.host(), bytes);
    list.size = sizeof list + 8;
    EXPECT_EQ(tq_copy_pages(&cache, &other, &list, nullptr, message, sizeof message), TQ_INVALID_ARGUMENT);
    EXPECT_NE(std::string(message).find("list.size"), std::string::npos);
    list.size = sizeof list;
    flat.size = 4;
    EXPECT_EQ(tq_export_pages(&cache, &flat, &list, nullptr, message, sizeof message), TQ_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace turboquant::test
