// Matrix products of a warpgroup (sm_90a): 64 rows from registers or shared memory, columns from shared memory, both with the inner
// dimension side by side: binary16 with float sums, signed bytes with int32 sums.
//
// A tile in shared memory: rows of 128 bytes (64 numbers of binary16), begin at a multiple of 1024 bytes; 16-byte chunk c of row r lies at chunk
// c ^ (r % 8). More numbers per row: blocks of such tiles.
#pragma once

#include "cuda/device/warp.cuh"

namespace turboquant::device {

// Descriptor of a tile of any number of rows, from its shared address; 16 inner numbers further on: + 32 bytes.
TQ_DEV std::uint64_t tile_descriptor(std::uint32_t address) {
    return static_cast<std::uint64_t>((address & 0x3ffff) >> 4) | 1ull << 16 | static_cast<std::uint64_t>(1024 >> 4) << 32 | 1ull << 62;
}

// The same from its lower half, to which bytes / 16 may be added: one uniform register changes from product to product.
TQ_DEV std::uint64_t tile_operand(std::uint32_t low) { return static_cast<std::uint64_t>(static_cast<std::uint32_t>(tile_descriptor(0) >> 32)) << 32 | low; }
TQ_DEV std::uint32_t operand_low(std::uint32_t address) { return static_cast<std::uint32_t>(tile_descriptor(address)); }

// The same number in all lanes, so that the compiler knows it: loops and descriptors then live in uniform registers.
template <class T>
__device__ __forceinline__ T uniform(T x) { return __shfl_sync(~0u, x, 0); }

TQ_DEV void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
TQ_DEV void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kLater groups, those committed last, are under way.
template <int kLater = 0>
TQ_DEV void products_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLater) : "memory"); }
// Sums may be touched only before products_begin and after products_wait: keeps the compiler from moving that.
template <int kNum>
TQ_DEV void hold(float* d) {
#pragma unroll
    for (int i = 0; i < kNum; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kNum>
TQ_DEV void hold(int* d) {
#pragma unroll
    for (int i = 0; i < kNum; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

#define TQ_EIGHT(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])

// d (+)= A B^T: kColumns columns, 16 inner numbers. Lane 4 g + t of warp w has rows 16 w + g and + 8: d[4 c + 2 h + e] is row g + 8 h, column
// 8 c + 2 t + e; a[0..3]: rows g, g + 8, g, g + 8, inner numbers 2 t and 2 t + 1, for the last two + 8. add: 0 or 1.
template <int kColumns>
struct Products;

template <>
struct Products<64> {
    static TQ_DEV void add(float* d, const std::uint32_t* a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
                     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                     "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                     "}, {%32, %33, %34, %35}, %36, p, 1, 1, 0;}"
                     : TQ_EIGHT(d, 0), TQ_EIGHT(d, 8), TQ_EIGHT(d, 16), TQ_EIGHT(d, 24)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
    static TQ_DEV void add_shared(float* d, std::uint64_t a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
                     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                     "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                     "}, %32, %33, p, 1, 1, 0, 0;}"
                     : TQ_EIGHT(d, 0), TQ_EIGHT(d, 8), TQ_EIGHT(d, 16), TQ_EIGHT(d, 24)
                     : "l"(a), "l"(b), "r"(add));
    }
};

template <>
struct Products<96> {
    static TQ_DEV void add(float* d, const std::uint32_t* a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %53, 0; wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 {"
                     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                     "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
                     "}, {%48, %49, %50, %51}, %52, p, 1, 1, 0;}"
                     : TQ_EIGHT(d, 0), TQ_EIGHT(d, 8), TQ_EIGHT(d, 16), TQ_EIGHT(d, 24), TQ_EIGHT(d, 32), TQ_EIGHT(d, 40)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

template <>
struct Products<128> {
    static TQ_DEV void add(float* d, const std::uint32_t* a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
                     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                     "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                     "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                     "}, {%64, %65, %66, %67}, %68, p, 1, 1, 0;}"
                     : TQ_EIGHT(d, 0), TQ_EIGHT(d, 8), TQ_EIGHT(d, 16), TQ_EIGHT(d, 24), TQ_EIGHT(d, 32), TQ_EIGHT(d, 40), TQ_EIGHT(d, 48), TQ_EIGHT(d, 56)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

template <>
struct Products<192> {
    static TQ_DEV void add(float* d, const std::uint32_t* a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %101, 0; wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 {"
                     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                     "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                     "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
                     "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
                     "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
                     "}, {%96, %97, %98, %99}, %100, p, 1, 1, 0;}"
                     : TQ_EIGHT(d, 0), TQ_EIGHT(d, 8), TQ_EIGHT(d, 16), TQ_EIGHT(d, 24), TQ_EIGHT(d, 32), TQ_EIGHT(d, 40), TQ_EIGHT(d, 48), TQ_EIGHT(d, 56), TQ_EIGHT(d, 64), TQ_EIGHT(d, 72), TQ_EIGHT(d, 80), TQ_EIGHT(d, 88)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

#define TQ_FOUR(how, d, i) how(d[i]), how(d[i + 1]), how(d[i + 2]), how(d[i + 3])
#define TQ_EIGHT_INTS(how, d, i) TQ_FOUR(how, d, i), TQ_FOUR(how, d, i + 4)

template <>
struct Products<8> {
    static TQ_DEV void add(float* d, const std::uint32_t* a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %9, 0; wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, p, 1, 1, 0;}"
                     : TQ_FOUR("+f", d, 0)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

template <>
struct Products<16> {
    static TQ_DEV void add(float* d, const std::uint32_t* a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %13, 0; wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {"
                     "%0, %1, %2, %3, %4, %5, %6, %7"
                     "}, {%8, %9, %10, %11}, %12, p, 1, 1, 0;}"
                     : TQ_EIGHT(d, 0)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

template <>
struct Products<32> {
    static TQ_DEV void add(float* d, const std::uint32_t* a, std::uint64_t b, int add) {
        asm volatile("{.reg .pred p; setp.ne.b32 p, %21, 0; wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {"
                     "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
                     "}, {%16, %17, %18, %19}, %20, p, 1, 1, 0;}"
                     : TQ_EIGHT(d, 0), TQ_EIGHT(d, 8)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
    }
};

// The same for bytes with int32 sums, those of the left operand signed or unsigned: 32 inner numbers, of which lane 4 g + t has, of rows g and g + 8,
// 4 t .. 4 t + 3 in a[0] and a[1], and those + 16 in a[2] and a[3]. start() is for sums that begin: it only writes d, so that other products may be under way.
template <int kColumns, bool kUnsigned>
struct ByteProducts;

// SUMS: the numbers of the operands that are sums, INTS: their list; OPERANDS: the numbers of those after them.
#define TQ_BYTE_PRODUCT(NAME, ADD, HOW, COLUMNS, LEFT, SUMS, OPERANDS, INTS)                                                                     \
    static TQ_DEV void NAME(int* d, const std::uint32_t* a, std::uint64_t b) {                                                                   \
        asm volatile("{.reg .pred p; setp.ne.b32 p, " ADD ", 0; wgmma.mma_async.sync.aligned.m64n" #COLUMNS "k32.s32." LEFT ".s8 {" SUMS "}, " OPERANDS ", p;}" \
                     : INTS(HOW, d)                                                                                                              \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                                      \
    }
#define TQ_BYTE_PRODUCTS(COLUMNS, SUMS, OPERANDS, INTS)                              \
    template <>                                                                      \
    struct ByteProducts<COLUMNS, false> {                                            \
        TQ_BYTE_PRODUCT(start, "0", "=r", COLUMNS, "s8", SUMS, OPERANDS, INTS)       \
        TQ_BYTE_PRODUCT(add, "1", "+r", COLUMNS, "s8", SUMS, OPERANDS, INTS)         \
    };                                                                               \
    template <>                                                                      \
    struct ByteProducts<COLUMNS, true> {                                             \
        TQ_BYTE_PRODUCT(start, "0", "=r", COLUMNS, "u8", SUMS, OPERANDS, INTS)       \
        TQ_BYTE_PRODUCT(add, "1", "+r", COLUMNS, "u8", SUMS, OPERANDS, INTS)         \
    };
#define TQ_8_INTS(how, d) TQ_EIGHT_INTS(how, d, 0)
#define TQ_16_INTS(how, d) TQ_8_INTS(how, d), TQ_EIGHT_INTS(how, d, 8)
#define TQ_32_INTS(how, d) TQ_16_INTS(how, d), TQ_EIGHT_INTS(how, d, 16), TQ_EIGHT_INTS(how, d, 24)

TQ_BYTE_PRODUCTS(16, "%0, %1, %2, %3, %4, %5, %6, %7", "{%8, %9, %10, %11}, %12", TQ_8_INTS)
TQ_BYTE_PRODUCTS(32, "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15", "{%16, %17, %18, %19}, %20", TQ_16_INTS)
TQ_BYTE_PRODUCTS(64,
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31",
                 "{%32, %33, %34, %35}, %36", TQ_32_INTS)

#undef TQ_BYTE_PRODUCT
#undef TQ_BYTE_PRODUCTS
#undef TQ_8_INTS
#undef TQ_16_INTS
#undef TQ_32_INTS
#undef TQ_EIGHT_INTS
#undef TQ_FOUR
#undef TQ_EIGHT

}  // namespace turboquant::device
