// The overlay's part in the other verbs, on the host: what append, attend and prefill enqueue besides. Arguments have been judged.
#pragma once

#include "cuda/append/params.hpp"
#include "cuda/attend/params.hpp"
#include "cuda/overlay/tables.hpp"
#include "turboquant/cuda.hpp"

namespace turboquant::cuda {

inline bool has_overlay(const PagedCache& cache) { return cache.overlay.num_slots > 0; }
inline OverlayLayout overlay_layout(const Overlay& overlay) { return {overlay.num_pages, overlay.num_slots}; }
inline std::uint16_t* overlay_rows(const Overlay& overlay) {
    return reinterpret_cast<std::uint16_t*>(static_cast<std::uint8_t*>(overlay.memory) + overlay_layout(overlay).rows_offset());
}

// Before append's own kernel, which then starts overlapped and waits: slots are given, pages sealed, rows copied.
Status record_exact(const PagedCache& cache, const AppendArgs& args, const AppendParams& append, void* stream);

// Makes attention write to the scratch what it knows from coded pages; `joined` keeps what the caller wants.
struct Joining {
    AttendParams wanted;
    int most_queries;                   // positions of a sequence
    int prefill_rows;                   // of prefill's tiles; 0: attend
};
Joining divert(const PagedCache& cache, const AttendArgs& args, int prefill_rows, AttendParams& p);
// After attention's last kernel.
Status join_exact(const PagedCache& cache, const AttendArgs& args, const Joining& joining, void* stream);

}  // namespace turboquant::cuda
