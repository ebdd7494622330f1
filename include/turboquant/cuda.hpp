// Attention and encoding on compressed pages in GPU memory (layouts mma64 and records64, docs/format.md), for inference engines with paged caches.
//
// Every verb takes device pointers and a stream and enqueues one kernel or a few: nothing allocates, synchronises, prints or reads device values
// on the host, and no state is kept beyond the caller's workspace. A captured graph follows lengths, tables and mappings that change
// between replays. What is refused is refused before anything is enqueued, with a message that names the argument.
//
// A page holds 64 tokens. Its blob of one KV head lies at pages + page * page_stride + head * head_stride.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "turboquant/spec.hpp"
#include "turboquant/status.hpp"

namespace turboquant::cuda {

inline constexpr int kTokensPerPage = 64;

enum class Number : std::int32_t { bf16 = 0, fp16 = 1, fp32 = 2 };

// How a page is coded: the part of a Spec that pages have. Pages hold codes from the first moment; what is exact besides is in an Overlay.
// There is no balance and there are no kept keys.
struct PageSpec {
    int head_dim = 128;                       // 64, 80, 96, 112, 128, 192 or 256
    int key_bits = 4, value_bits = 4;         // 2, 3, 4 or 8
    std::uint64_t seed = 0x54515f76315f0001;  // of the sign streams; the rotation is the Hadamard one
    bool centred_keys = true;                 // code the difference from the page's key reference
    bool gain_search = true;
    bool trellis_codes = false;               // codes of 2 to 4 bits follow a trellis: slower here (see uses_records)
    // The paper's and the original project's, as in Spec.
    Estimator key_estimator = Estimator::mse;        // prod: key_bits 2, 3 or 4, the sign counted; centred_keys must be off
    Sketch sketch = Sketch::gaussian;                // of prod; gaussian needs PagedCache::sketch_table
    ValueScheme value_scheme = ValueScheme::rotated; // group: value_bits 2 or 4
};

Status validate(const PageSpec& spec);

// Whether pages are lists of records (layout records64, docs/format.md): key_estimator prod, value_scheme group, or trellis_codes with a side
// of 2 to 4 bits that is neither. append, attend and copy_pages serve them through plain kernels that are correct and not fast, for
// every head_dim whatever TQ_CUDA_KERNELS names; prefill, export_pages and import_pages refuse them. spec must be valid.
bool uses_records(const PageSpec& spec);

// The random matrix S of a Gaussian sketch, in binary32, head_dim rows of head_dim numbers, number i of row j being S[i][j]. table is host
// memory of sketch_table_bytes(): compute it once, copy it to the device, and name it in every cache of that head_dim and seed. It is the
// matrix of the CPU's stores, so that codes made on this machine's GPU and CPU are the same bits.
std::size_t sketch_table_bytes(const PageSpec& spec);  // 0: no table is needed. spec must be valid
Status fill_sketch_table(const PageSpec& spec, float* table);

// Bytes of a blob of one (page, KV head), a multiple of 128. spec must be valid.
std::size_t blob_bytes(const PageSpec& spec);

// A pool of exact page copies ("slots", binary16) beside the pages, which hold codes all the same. append gives slots to each sequence's first
// page, the page being written and the one before it; attend and prefill read these pages from their slots, the others as codes. A page has a
// slot from the moment its first place is written, and loses it when its sequence has gone on (seen by an append of it) or when another page
// needs it: then the page is sealed first, that is, its reference becomes the mean of its exact keys and its codes are made from its exact
// rows. So a sequence holds three slots. Slots of sequences that are gone are taken again, those first that no call has wanted for longest.
// Where there are fewer slots than pages that want one, sequences of the call keep what they have and the rest is codes: attend reads page 0
// exactly if it has a slot, and of the last two pages those that have one without a gap at the end.
//
// All of it is decided on the device, in `memory`: the host keeps no books, and freed pages, shared prefixes, preempted sequences, rewound
// lengths and replayed graphs need no calls. Three rules: all layers of a cache have overlays of their own; every append to the cache names
// its overlay; pages are replaced by append, copy_pages and import_pages only, or named to forget_pages afterwards.
struct Overlay {
    void* memory = nullptr;                   // device, aligned to 256 bytes; its first bytes (see overlay_memory) zero before the first use
    int num_slots = 0;                        // 0: no overlay; at most 2^20
    int num_pages = 0;                        // of the cache: page numbers are below it
};

struct PagedCache {
    PageSpec spec;
    int kv_heads = 0;
    void* pages = nullptr;                    // device, aligned to 128 bytes
    std::int64_t page_stride = 0;             // bytes, multiples of 128
    std::int64_t head_stride = 0;
    Overlay overlay{};
    const float* sketch_table = nullptr;      // device, aligned to 4 bytes: where sketch_table_bytes(spec) is not 0
};

// What must precede the kernel in the stream. With programmatic dependent launch it may start while the kernel before it is still running.
enum class Start : std::int32_t {
    after = 0,                // ordinary stream order
    overlapped = 1,           // programmatic dependent launch; everything is read after the kernel before is complete
    overlapped_tables = 2,    // as overlapped, but lengths, block table and query_start are known to be ready, and the kernel before writes
                              // no page but those that hold the queries' own tokens: an append
};

// Attention of 1 to 16 query positions per sequence, causal among themselves: the last query stands at the sequence's last token.
// Query heads h * group .. h * group + group - 1 share KV head h.
struct AttendArgs {
    int batch = 0;                            // sequences, at most 1024
    int query_heads = 0;                      // kv_heads * group, group 1 to 128
    int num_queries = 1;                      // positions per sequence, the most of any with query_start
    const void* query = nullptr;              // [tokens][query_heads][head_dim], bf16 or fp16, aligned to 16 bytes, not rotated
    Number query_number = Number::bf16;
    std::int64_t query_token_stride = 0, query_head_stride = 0;    // in numbers, multiples of 8; head_dim lies side by side
    void* output = nullptr;                   // the same shape; never aliases query
    Number output_number = Number::bf16;
    std::int64_t output_token_stride = 0, output_head_stride = 0;  // in numbers; for prefill multiples of 8
    float* log_sum = nullptr;                 // optional: [tokens][query_heads], natural logarithm of the softmax denominator
    const std::int32_t* lengths = nullptr;    // [batch] tokens per sequence, the queries' own included; 0: empty, its outputs are zero
    const std::int32_t* block_table = nullptr;  // [batch][table_stride] page numbers
    int table_stride = 0;
    const std::int32_t* query_start = nullptr;  // optional: [batch + 1], first token of each sequence in query and output; else b * num_queries
    const float* sinks = nullptr;             // optional: [query_heads], a logit that takes weight and has no value
    float scale = 0;                          // of q . k; positive
    float softcap = 0;                        // 0: none; else scores become softcap * tanh(score / softcap)
    int window = 0;                           // 0: none; else a query sees itself and the window - 1 tokens before it
    Start start = Start::after;
    void* workspace = nullptr;                // device, 256-byte aligned; its first bytes (see attend_workspace) zero before the first use
    std::size_t workspace_bytes = 0;
    // With an overlay only: device, 256-byte aligned, what overlay_scratch says for the number of tokens in query: batch * num_queries, or
    // query_start[batch], which cannot be checked here. Its contents do not matter, before and after.
    void* scratch = nullptr;
    std::size_t scratch_bytes = 0;
};

// The workspace that attend() needs on the current device for sequences of any length and number. `zeroed`: how many of its first bytes must
// be zero before the first use; attend() leaves them zero. One workspace serves one stream at a time: calls that share one at the same time may
// never end.
struct Workspace {
    std::size_t bytes = 0, zeroed = 0;
};
Result<Workspace> attend_workspace(const PageSpec& spec, int kv_heads, int query_heads, int num_queries);

// With an overlay two kernels are enqueued, and Start::overlapped_tables is as Start::overlapped.
Status attend(const PagedCache& cache, const AttendArgs& args, void* stream);

// Bytes of an overlay's memory, and how many of its first ones must be zero before the first use; bytes of `scratch` for so many query tokens.
Result<Workspace> overlay_memory(const PageSpec& spec, int kv_heads, int num_pages, int num_slots);
std::size_t overlay_scratch(const PageSpec& spec, int query_heads, std::int64_t tokens);

// Attention of many query positions per sequence, hundreds to thousands, on the whole history: each tile of query rows decodes a page once, and
// the products run on binary16 matrix units. The queries' own keys and values are in the cache already (append). Arguments as for attend(), but:
// num_queries and the group (query_heads / kv_heads) may be any positive number, with queries times group below 2^31 per sequence; start is
// after or overlapped; the output is aligned to 16 bytes and its strides are multiples of 8; the workspace is the following one and need not be
// zero. Two kernels are enqueued: pieces of query tiles that several processors worked on are put together by the second; with an overlay a third.
// Fastest on compute capability 9.0 (kernels for 90a), which has instructions of its own for it.
//
// Keys are decoded to binary16 less the reference of some page of the sequence; scores are exact in what all keys of a sequence have in
// common, and rounded as binary16 in how their pages' references differ. Queries are rounded to binary16 after their rotation. Both
// roundings put an error of about 3e-4 of |q| |k| scale / sqrt(head_dim) on a score (standard deviation; the largest of many is four
// times that), which is the relative error of an output row that hangs on few keys, and that of log_sum. Over the rows of a sequence the relative
// error stays below 2e-3 for ordinary queries, or 4e-3 where a few long keys among very many decide; attend() keeps every row below 2e-3.
Result<Workspace> prefill_workspace(const PageSpec& spec);
Status prefill(const PagedCache& cache, const AttendArgs& args, void* stream);

// Rotary position embedding of keys, as a part of append.
enum class RopeStyle : std::int32_t {
    none = 0,                 // keys come rotated, or the model has no such embedding
    half_split = 1,           // numbers j and j + rotary_dim / 2 turn together (GPT-NeoX, Llama)
    interleaved = 2,          // numbers 2 j and 2 j + 1 (GPT-J)
};

// The first rotary_dim numbers of a key turn by the angles of its position, of which the tables hold cosines and sines: whatever scaling of
// frequencies a model uses (linear, NTK, YaRN, ...; its factor on both tables too) is in them. Pair (a, b) becomes
//   a cos - b sin, b cos + a sin
// in float32, each product and each sum rounded once, no fused operation; the result is rounded to the rows' own format. So append gives the
// same bits as it does for rows that were rotated so beforehand. A token whose position is negative or not below max_position has no entry:
// nothing outside the tables is read, and its key is coded as one of NaN, as attention on it will show. A slot that is skipped may have any.
// An overlay keeps the turned keys. With pages of records (uses_records) the style must be none.
struct Rope {
    RopeStyle style = RopeStyle::none;
    int rotary_dim = 0;                       // even, 2 to head_dim; numbers from there on stay
    const float *cosines = nullptr, *sines = nullptr;  // device, [max_position][rotary_dim / 2]
    std::int64_t position_stride = 0;         // numbers from position to position, in both tables; at least rotary_dim / 2
    std::int64_t max_position = 0;            // 1 to 2^31 - 1
    const void* positions = nullptr;          // device, [tokens]
    int position_bytes = 4;                   // of each: 4 (int32) or 8 (int64)
};

// Codes new keys and values into their slots. Every number is converted to binary16 first, as everywhere in the library. Codes and scales
// are those of the CPU, bit for bit.
//
// Reference of a page: rows of one page that stand next to each other in the mapping, with slots ascending by one, are a run. A run that
// begins with the page's first slot gives the page its reference: the mean of its rows if there are at least 16, if the sequence has no
// page before, or if the page before begins in the same call with a row skipped; else the reference of the page before. Other rows are coded
// against the reference that the page has, be it given in the same call. A sequence's rows are in the mapping in order, one per token.
struct AppendArgs {
    int tokens = 0;
    const void* keys = nullptr;               // [tokens][kv_heads][head_dim]
    const void* values = nullptr;
    Number number = Number::bf16;             // bf16, fp16 or fp32
    std::int64_t key_token_stride = 0, key_head_stride = 0, value_token_stride = 0, value_head_stride = 0;  // in numbers
    const std::int64_t* slots = nullptr;      // [tokens]: page * 64 + place in the page; negative: skipped
    // To find the page before: as in AttendArgs, lengths counting the new tokens. Optional without an overlay: no sequence has one then. With
    // an overlay all tokens belong to sequences.
    int batch = 0;
    const std::int32_t* query_start = nullptr;  // [batch + 1]
    const std::int32_t* lengths = nullptr;      // [batch]
    const std::int32_t* block_table = nullptr;
    int table_stride = 0;
    Start start = Start::after;               // after or overlapped
    Rope rope;                                // optional: turns the keys first
};

// With an overlay three kernels are enqueued.
Status append(const PagedCache& cache, const AppendArgs& args, void* stream);

// Which pages a copy or a conversion is of. Entry i takes page source[i] to page destination[i]; no page may be written twice.
struct PageList {
    int num = 0;                              // entries
    const std::int32_t* source = nullptr;     // device, [num]; negative: the entry is skipped; null: page i
    const std::int32_t* destination = nullptr;  // the same of where it goes; both null: the first num pages
    Start start = Start::after;               // after or overlapped
};

// Copies pages, all heads: scattered, gathered, or from one pool to another. Both caches have the same spec and number of heads; they may be
// one cache, if no page that is written is read. Codes are copied: where the cache that is written has an overlay, its pages lose their slots.
Status copy_pages(const PagedCache& from, const PagedCache& to, const PageList& list, void* stream);

// The other two layouts of docs/format.md, for caches on the CPU and in files. Conversion is exact both ways.
enum class Layout : std::int32_t {
    rows = 0,                 // 64 records, one after another
    simd64 = 1,               // a key tile, then the value tile
};

// Pages in another layout: that of (page, KV head) lies at data + page * page_stride + head * head_stride.
struct PageImages {
    Layout layout = Layout::rows;
    void* data = nullptr;                     // device, aligned to 2 bytes
    std::int64_t page_stride = 0, head_stride = 0;  // bytes, even
    // Optional, for rows, which have no key references: binary16 [pages][kv_heads][head_dim]. Without it an exported reference is dropped, and
    // an imported page keeps the one it has. Null for simd64.
    void* references = nullptr;
};

// Bytes of one (page, KV head) in that layout. spec must be valid.
std::size_t image_bytes(const PageSpec& spec, Layout layout);

// list.source names pages of the cache and list.destination images, and the other way round for import. An imported page is written whole,
// but for what is said about references, and loses its slot in an overlay; codes are exported.
Status export_pages(const PagedCache& from, const PageImages& to, const PageList& list, void* stream);
Status import_pages(const PageImages& from, const PagedCache& to, const PageList& list, void* stream);

// Pages list.destination (null: the first num pages) were replaced by other means than these verbs: they lose their slots in the cache's overlay.
Status forget_pages(const PagedCache& cache, const PageList& list, void* stream);

// The CUDA devices of this machine; none where there is no driver.
struct Device {
    std::string name;
    int major = 0, minor = 0;                 // compute capability
    int processors = 0;
    std::size_t memory_bytes = 0;
};
std::vector<Device> devices();

// The kernels that depend on the build (TQ_CUDA_KERNELS), with the policy of each: query rows of a unit of work, threads of a CTA.
struct BuiltKernel {
    std::string verb;                         // attend or prefill
    int head_dim = 0, key_bits = 0, value_bits = 0;  // bits 0: all of them
    int rows = 0, threads = 0;
    int target = 0;                           // first compute capability that it is for, times ten: 80, 86, 90 or 120
};
std::vector<BuiltKernel> built_kernels();

}  // namespace turboquant::cuda
