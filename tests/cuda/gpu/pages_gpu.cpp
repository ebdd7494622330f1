// Copying and converting pages on the device, bit for bit against core/page_convert.hpp.
#include <algorithm>
#include <numeric>
#include <random>

#include "core/page_convert.hpp"
#include "device.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::test {
namespace {

using cuda::Layout;

constexpr int kHeads = 3, kPages = 9, kEntries = 6;
using Bytes = std::vector<std::uint8_t>;

Bytes random_bytes(std::size_t num, unsigned seed) {
    std::mt19937 engine(seed);
    Bytes bytes(num);
    for (auto& b : bytes) b = static_cast<std::uint8_t>(engine());
    return bytes;
}

// A pool of pages with room between heads and pages, and images of them likewise; lists with skipped entries.
struct Pools {
    cuda::PageSpec spec;
    PageLayout layout;
    cuda::PagedCache cache;
    cuda::PageImages images;
    std::size_t image, pool_bytes, images_bytes;
    std::vector<std::int32_t> pages = {7, 2, -1, 0, 5, 8}, others = {1, 4, 3, -1, 0, 2};
    DeviceBuffer<std::int32_t> pages_device{pages}, others_device{others};

    Pools(int head_dim, int key_bits, int value_bits, Layout as) : layout{head_dim, key_bits, value_bits} {
        spec.head_dim = head_dim;
        spec.key_bits = key_bits;
        spec.value_bits = value_bits;
        image = cuda::image_bytes(spec, as);
        cache.spec = spec;
        cache.kv_heads = kHeads;
        cache.head_stride = static_cast<std::int64_t>(layout.blob_bytes()) + 128;
        cache.page_stride = cache.head_stride * kHeads + 256;
        pool_bytes = static_cast<std::size_t>(cache.page_stride) * kPages;
        images.layout = as;
        images.head_stride = static_cast<std::int64_t>(image) + 6;
        images.page_stride = images.head_stride * kHeads + 10;
        images_bytes = static_cast<std::size_t>(images.page_stride) * kEntries;
    }
    std::size_t blob_at(int page, int head) const { return static_cast<std::size_t>(page * cache.page_stride + head * cache.head_stride); }
    std::size_t image_at(int entry, int head) const { return static_cast<std::size_t>(entry * images.page_stride + head * images.head_stride); }
};

// What the codes of a page leave open: nothing but the bytes after its last scale, and dims beyond head_dim, which must be zero.
Bytes valid_pool(const Pools& pools, unsigned seed) {
    Bytes pool = random_bytes(pools.pool_bytes, seed);
    for (int page = 0; page < kPages; ++page) {
        for (int head = 0; head < kHeads; ++head) {
            for (Side which : {Side::key, Side::value}) {
                const PageSide side = pools.layout.of(which);
                std::uint8_t* part = &pool[pools.blob_at(page, head) + pools.layout.offset(which)];
                for (int t = 0; t < kPageTokens; ++t) {
                    for (int j = side.head_dim; j < side.padded_dim(); ++j) page_set_code(side, part, t, j, 0);
                }
                for (int j = side.head_dim; which == Side::key && j < side.padded_dim(); ++j) std::memset(part + side.reference_offset() + 2 * j, 0, 2);
            }
        }
    }
    return pool;
}

void to_image(const Pools& pools, const std::uint8_t* blob, std::uint8_t* image, std::uint8_t* reference) {
    const std::size_t key_tile = TileLayout{Side::key, pools.spec.head_dim, pools.spec.key_bits}.blob_bytes();
    for (Side which : {Side::key, Side::value}) {
        if (pools.images.layout == Layout::rows) page_to_rows(pools.layout, which, blob, image);
        else page_to_tile(pools.layout, which, blob, image + (which == Side::key ? 0 : key_tile));
    }
    if (reference) std::memcpy(reference, blob + pools.layout.keys().reference_offset(), 2 * static_cast<std::size_t>(pools.spec.head_dim));
}

void to_page(const Pools& pools, const std::uint8_t* image, const std::uint8_t* reference, std::uint8_t* blob) {
    const std::size_t key_tile = TileLayout{Side::key, pools.spec.head_dim, pools.spec.key_bits}.blob_bytes();
    for (Side which : {Side::key, Side::value}) {
        if (pools.images.layout == Layout::rows) rows_to_page(pools.layout, which, image, blob);
        else tile_to_page(pools.layout, which, image + (which == Side::key ? 0 : key_tile), blob);
    }
    if (reference) std::memcpy(blob + pools.layout.keys().reference_offset(), reference, 2 * static_cast<std::size_t>(pools.spec.head_dim));
}

void check_both_ways(int head_dim, int key_bits, int value_bits, Layout as, bool references) {
    Pools pools(head_dim, key_bits, value_bits, as);
    SCOPED_TRACE("d" + std::to_string(head_dim) + " k" + std::to_string(key_bits) + "v" + std::to_string(value_bits) + (as == Layout::rows ? " rows" : " simd64"));
    const std::size_t reference_bytes = 2 * static_cast<std::size_t>(head_dim);
    const Bytes pool = valid_pool(pools, 1), images = random_bytes(pools.images_bytes, 2), beside = random_bytes(kEntries * kHeads * reference_bytes, 3);
    DeviceBuffer<std::uint8_t> pool_device(pool), images_device(images), beside_device(beside);
    pools.cache.pages = pool_device.get();
    pools.images.data = images_device.get();
    pools.images.references = references ? beside_device.get() : nullptr;
    cuda::PageList list;
    list.num = kEntries;
    list.source = pools.pages_device.get();
    list.destination = pools.others_device.get();
    expect_ok(cuda::export_pages(pools.cache, pools.images, list, nullptr));
    TQ_CUDA_OK(cudaDeviceSynchronize());
    Bytes want = images, want_beside = beside;
    for (int i = 0; i < kEntries; ++i) {
        if (pools.pages[i] < 0 || pools.others[i] < 0) continue;
        for (int h = 0; h < kHeads; ++h) {
            to_image(pools, &pool[pools.blob_at(pools.pages[i], h)], &want[pools.image_at(pools.others[i], h)],
                     references ? &want_beside[(pools.others[i] * kHeads + h) * reference_bytes] : nullptr);
        }
    }
    EXPECT_EQ(images_device.host(), want);
    EXPECT_EQ(beside_device.host(), want_beside);
    EXPECT_EQ(pool_device.host(), pool);

    const Bytes other = valid_pool(pools, 4);
    pool_device.set(other);
    std::swap(list.source, list.destination);
    expect_ok(cuda::import_pages(pools.images, pools.cache, list, nullptr));
    TQ_CUDA_OK(cudaDeviceSynchronize());
    Bytes want_pool = other;
    for (int i = 0; i < kEntries; ++i) {
        if (pools.pages[i] < 0 || pools.others[i] < 0) continue;
        for (int h = 0; h < kHeads; ++h) {
            to_page(pools, &want[pools.image_at(pools.others[i], h)], references ? &want_beside[(pools.others[i] * kHeads + h) * reference_bytes] : nullptr,
                    &want_pool[pools.blob_at(pools.pages[i], h)]);
        }
    }
    EXPECT_EQ(pool_device.host(), want_pool);
}

TEST(Pages, ConvertEveryWidth) {
    for (int d : {64, 80, 96, 112, 128, 192, 256}) {
        for (int kb : {2, 3, 4, 8}) {
            for (int vb : {2, 3, 4, 8}) {
                check_both_ways(d, kb, vb, Layout::rows, (kb + vb) % 2 == 0);
                check_both_ways(d, kb, vb, Layout::simd64, false);
            }
        }
    }
}

TEST(Pages, CopyScattersAndGathers) {
    for (int d : {64, 112, 128}) {
        Pools pools(d, 4, 3, Layout::rows);
        const Bytes from = random_bytes(pools.pool_bytes, 5), to = random_bytes(pools.pool_bytes, 6);
        DeviceBuffer<std::uint8_t> from_device(from), to_device(to);
        pools.cache.pages = from_device.get();
        cuda::PagedCache target = pools.cache;
        target.pages = to_device.get();
        cuda::PageList list;
        list.num = kEntries;
        Bytes want = to;
        const auto copy = [&](int source, int destination) {
            if (source < 0 || destination < 0) return;
            for (int h = 0; h < kHeads; ++h) std::copy_n(&from[pools.blob_at(source, h)], pools.layout.blob_bytes(), &want[pools.blob_at(destination, h)]);
        };
        for (int lists = 0; lists < 4; ++lists) {
            list.source = lists & 1 ? pools.pages_device.get() : nullptr;
            list.destination = lists & 2 ? pools.others_device.get() : nullptr;
            for (int i = 0; i < kEntries; ++i) copy(lists & 1 ? pools.pages[i] : i, lists & 2 ? pools.others[i] : i);
            expect_ok(cuda::copy_pages(pools.cache, target, list, nullptr));
            TQ_CUDA_OK(cudaDeviceSynchronize());
            EXPECT_EQ(to_device.host(), want);
        }
        list.num = 0;
        expect_ok(cuda::copy_pages(pools.cache, target, list, nullptr));
    }
}

}  // namespace
}  // namespace turboquant::test
