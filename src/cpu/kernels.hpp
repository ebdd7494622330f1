// What one instruction set offers: a row of function pointers, and the plain data that they are handed.
// Only fixed-width types and pointers: the per-ISA files include nothing else of ours, so that no inline function of
// the library is ever compiled with instructions that the machine may lack.
#pragma once

#include <cstddef>
#include <cstdint>

namespace turboquant::cpu {

inline constexpr int kTile = 64;      // tokens per tile
inline constexpr int kMaxRows = 64;   // query rows that one attend() call serves
inline constexpr int kMaxDim = 576;

// Rotation and codebook of one side, as kernels read them. Lifetime: that of the tables they point into.
struct CoderParams {
    int head_dim;
    int bits;
    bool norm_matched;         // the scale kept with the codes: |y| / |c| (keys), else <y,y> / <y,c> (values)
    int base, run;             // head_dim = base * run: Paley and Sylvester factors
    const float* sign;         // [head_dim]
    const float* paley;        // [base][base]
    const float* dense;        // [head_dim][head_dim], or null for the Hadamard rotation
    float norm;                // 1 / sqrt(head_dim)
    int half;                  // positive codewords (unused at 8 bits)
    float alpha;
    float level[32];           // positive codewords
    float threshold[32];
    std::int8_t codeword[64];  // by code; along a trellis by [code's third bit of 3][u1][rest of code ^ u2]
    int num_gains;
    float gain[9];
    bool trellis;                    // core/trellis.hpp; then level and threshold above are not used but these:
    float subset_level[4][8];        // [subset][k] ascending
    float subset_threshold[4][8];    // [subset][k], k > 0: from here on level k is nearest
    float buckets_per_unit, outer_bucket;  // core/trellis.hpp
    // [subset][bucket modulo 8, twice], a cache line each: the nearest level below the threshold in that bucket, and from it on; the
    // same where there is none.
    alignas(64) float bucket_low[4][16];
    float bucket_high[4][16], bucket_threshold[4][16];
    std::uint8_t trellis_code[512];  // by 256 * u + level + 128
};

// A side that is coded by records (core/scheme.hpp): what attention calls for each of them.
struct RecordCoder {
    const void* scheme;
    std::size_t record_bytes;
    // scores [rows]: products of one record with prepared queries.
    void (*scores)(const void* scheme, const float* prepared, int rows, const std::uint8_t* record, float* scores);
    // sums [rows][value_dim] += weights [rows] * the record; a weight of 0 adds nothing.
    void (*accumulate)(const void* scheme, const float* weights, int rows, const std::uint8_t* record, float* sums);
};

// One tile of one KV head as attention sees it.
struct AttendTile {
    const std::uint8_t* key;    // coded: the simd64 blob or 64 records; exact: row 0 of this head, binary16
    const std::uint8_t* value;
    bool key_coded, value_coded;
    int key_stride, value_stride;  // exact: numbers from one row to the next
    int first_cell;                // of the tile, for the mask
    int skip, count;               // rows [skip, count) take part
    std::uint64_t kept_rows;       // coded keys: rows whose exact numbers are in kept, binary16 [popcount][key_dim]
    const std::uint16_t* kept;
};

struct AttendParams {
    int rows;                         // 1..kMaxRows
    int key_dim, value_dim;
    const CoderParams* key_coder;
    const CoderParams* value_coder;
    const float* query;               // [rows][key_dim], times the softmax scale
    const RecordCoder* key_records;   // null: coded tiles are simd64 blobs
    const RecordCoder* value_records;
    const float* query_prepared;      // with key_records: [rows] prepared queries
    const std::int32_t* query_packed; // the same rows rotated, from pack_rows()
    const float* query_unit;          // [rows]
    const std::uint16_t* const* mask; // [rows] pointers to binary16 by cell; the array is null without a mask
    const float* slope;               // [rows]
    float softcap;
    const AttendTile* tiles;
    int num_tiles;
    float* largest;                   // [rows] running maximum, starts at -infinity
    float* total;                     // [rows] running sum of weights, starts at 0
    float* sum_rotated;               // [rows][value_dim] weighted coded values, in the space of their codes, starts at 0
    float* sum_exact;                 // [rows][value_dim] weighted exact values, starts at 0
    std::uint8_t* scratch;            // attend_scratch_bytes, 64-byte aligned
};

struct Kernels {
    const char* name;

    // x [num][head_dim] -> codes [num][head_dim], one per byte, and scales [num] (before rounding to binary16; NaN or 0 as
    // the reference has it). Bit for bit the reference.
    void (*encode)(const CoderParams&, const float* x, int num, std::uint8_t* codes, float* scales);
    // In place over [num][head_dim]. Bit for bit the reference.
    void (*rotate)(const CoderParams&, float* x, int num);
    void (*unrotate)(const CoderParams&, float* x, int num);
    // Codes of a simd64 tile -> out [64][head_dim] floats: codeword times scale, in rotated space. Exact.
    void (*decode_tile)(const CoderParams&, bool key_side, const std::uint8_t* codes, const float* scales, float* out, std::uint8_t* scratch);

    void (*halves_to_floats)(const std::uint16_t* in, float* out, std::size_t num);
    void (*floats_to_halves)(const float* in, std::uint16_t* out, std::size_t num);

    // Fixed-point copies of rows [rows][dim] for the integer dot products: row r is about unit[r] * packed.
    void (*pack_rows)(const float* x, int rows, int dim, std::int32_t* packed, float* unit);
    std::size_t (*packed_words)(int rows, int dim);

    void (*attend)(const AttendParams&);
    std::size_t (*attend_scratch_bytes)(int key_dim, int value_dim);
};

// The chosen row (dispatch.cpp).
const Kernels& kernels();

}  // namespace turboquant::cpu
