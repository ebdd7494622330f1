#include "report.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "cache_tensor.hpp"
#include "log.hpp"
#include "policy.hpp"
#include "turboquant_ggml.h"

namespace turboquant::ggml {
namespace {

// Logit noise at which a layer's attention is lost, not only worse. (Measured: SmolLM2 still counts on with most layers near 2 and one
// at 3.3; attention with 6.7, as in the first layer of Qwen2.5, is noise.)
constexpr double kLostAttention = 5;

std::mutex mutex;
std::vector<CacheTensor*> live;
std::set<std::string> told_once;          // whole lines
bool placement_told = false;
std::set<std::string> told;               // reasons for plain f16
std::set<const CacheTensor*> decision_told;

tq_ggml_stats sum_of(const std::vector<CacheTensor*>& tensors) {
    tq_ggml_stats sum{};
    sum.size = sizeof sum;
    std::int64_t most_cells = 0;
    for (const CacheTensor* tensor : tensors) most_cells = std::max(most_cells, tensor->root()->ne[1]);
    for (const CacheTensor* tensor : tensors) {
        const StoreUsage usage = tensor->usage();
        const bool packed = tensor->state() == CacheTensor::State::packed;
        sum.elements += usage.elements;
        sum.resident_bytes += usage.resident_bytes;
        sum.coded_bytes += usage.coded_bytes;
        sum.exact_bytes += usage.exact_bytes;
        sum.f16_bytes += 2 * usage.elements;
        if (tensor->root()->ne[1] == most_cells) {
            sum.full_elements += usage.elements;
            sum.full_resident_bytes += usage.resident_bytes;
        }
        if (!packed) sum.plain_bytes += usage.resident_bytes;
        sum.packed_tensors += packed;
        sum.plain_tensors += tensor->state() == CacheTensor::State::plain;
        sum.wide_key_layers += packed && tensor->store()->widened();
        sum.noisy_key_layers += packed && tensor->store()->noisy();
    }
    return sum;
}

}  // namespace

void log_line(ggml_log_level level, const char* format, ...) {
    char text[1024] = "turboquant: ";
    va_list arguments;
    va_start(arguments, format);
    const std::size_t used = 12;
    std::vsnprintf(text + used, sizeof text - used - 1, format, arguments);
    va_end(arguments);
    std::snprintf(text + std::char_traits<char>::length(text), 2, "\n");
    ggml_log_callback callback = nullptr;
    void* user_data = nullptr;
    ggml_log_get(&callback, &user_data);
    if (callback) callback(level, text, user_data);
}

void report_created(CacheTensor* tensor) {
    const std::lock_guard lock(mutex);
    if (live.empty()) {
        told.clear();
        placement_told = false;
    }
    live.push_back(tensor);
}

void report_destroyed(CacheTensor* tensor) {
    const std::lock_guard lock(mutex);
    live.erase(std::remove(live.begin(), live.end(), tensor), live.end());
    decision_told.erase(tensor);
}

void report_once(ggml_log_level level, const std::string& text) {
    const std::lock_guard lock(mutex);
    if (told_once.insert(text).second) log_line(level, "%s", text.c_str());
}

void report_plain(const CacheTensor& tensor, const std::string& why) {
    const std::lock_guard lock(mutex);
    if (why.empty() || (!told.insert(why).second && !verbose())) return;
    log_line(GGML_LOG_LEVEL_WARN, "%s stays in plain %s%s: %s", tensor.root()->name, ggml_type_name(tensor.root()->type),
             verbose() ? "" : " (and others for the same reason)", why.c_str());
}

// The engine gives its last layers to a device, so that a range that does not begin with layer 0 is what -ngl has left.
// Layers without attention make gaps.
void report_placement() {
    const std::lock_guard lock(mutex);
    if (placement_told) return;
    placement_told = true;
    std::set<int> layers;
    for (const CacheTensor* tensor : live) layers.insert(tensor->layer());
    if (layers.empty()) {
        log_line(GGML_LOG_LEVEL_WARN, "the engine keeps no KV cache on TQ0, so that nothing is compressed; leave out -nkvo and -ngl");
    } else if (*layers.begin() > 0 && *layers.rbegin() - *layers.begin() + 1 == static_cast<int>(layers.size())) {
        log_line(GGML_LOG_LEVEL_WARN, "only layers %d to %d keep their cache on TQ0; leave out -ngl to compress all", *layers.begin(), *layers.rbegin());
    }
}

void report_progress() {
    const std::lock_guard lock(mutex);
    for (const CacheTensor* tensor : live) {
        const TileStore* store = tensor->store();
        if (!store || store->logit_noise() == 0 || !decision_told.insert(tensor).second) continue;
        if (store->widened()) {
            log_line(GGML_LOG_LEVEL_WARN, "layer %d takes 8-bit keys: with %d bits they would add noise of %.2f to attention's logits (limit %.2f)",
                     tensor->layer(), store->spec().key_bits, store->logit_noise(), wide_key_noise());
        } else if (store->noisy()) {
            log_line(GGML_LOG_LEVEL_WARN,
                     "layer %d: coding its keys with %d bits adds noise of %.2f to attention's logits (limit %.2f) and this preset has no 8-bit keys "
                     "to take instead; expect %s output; use k4v4, or leave the layer in f16 with TQ_LAYERS=%d=f16",
                     tensor->layer(), store->bits(), store->logit_noise(), wide_key_noise(),
                     store->logit_noise() > kLostAttention ? "wrong" : "worse", tensor->layer());
        } else if (verbose()) {
            log_line(GGML_LOG_LEVEL_WARN, "layer %d keeps %d-bit keys: noise of attention's logits %.3f", tensor->layer(), store->bits(), store->logit_noise());
        }
    }
}

// (Engines of 2026 hide what libraries log as information; this is what the user came for.)
void report_held(const std::vector<CacheTensor*>& tensors) {
    const std::lock_guard lock(mutex);
    const tq_ggml_stats sum = sum_of(tensors);
    if (sum.packed_tensors == 0 || sum.elements == 0) return;
    log_line(GGML_LOG_LEVEL_WARN, "the cache held %.2f MiB, %.2f bits per value (f16: %.2f MiB); %u tensors in codes, %u in plain f16, %u with 8-bit keys by need",
             static_cast<double>(sum.resident_bytes) / 1048576, 8.0 * static_cast<double>(sum.resident_bytes) / static_cast<double>(sum.elements),
             static_cast<double>(sum.f16_bytes) / 1048576, sum.packed_tensors, sum.plain_tensors, sum.wide_key_layers);
}

}  // namespace turboquant::ggml

extern "C" int tq_ggml_get_stats(struct tq_ggml_stats* stats) {
    using namespace turboquant::ggml;
    if (!stats || stats->size != sizeof(tq_ggml_stats)) return -1;
    const std::lock_guard lock(mutex);
    *stats = sum_of(live);
    return 0;
}

extern "C" int tq_ggml_get_tensor(uint32_t index, struct tq_ggml_tensor* out) {
    using namespace turboquant;
    using turboquant::ggml::CacheTensor;
    if (!out || out->size != sizeof(tq_ggml_tensor)) return -1;
    const std::lock_guard lock(ggml::mutex);
    if (index >= ggml::live.size()) return -1;
    const CacheTensor& tensor = *ggml::live[index];
    *out = tq_ggml_tensor{};
    out->size = sizeof(tq_ggml_tensor);
    out->cells = tensor.root()->ne[1] * tensor.root()->ne[2];
    out->layer = tensor.layer();
    out->is_values = tensor.side() == CacheSide::values;
    out->state = tensor.state() == CacheTensor::State::packed ? 1 : tensor.state() == CacheTensor::State::plain ? 2 : 0;
    if (const TileStore* store = tensor.store()) {
        out->logit_noise = store->logit_noise();
        out->num_kv_heads = store->shape().num_kv_heads;
        out->head_dim = store->spec().head_dim;
        out->bits = store->bits();
    }
    return 0;
}
