#include "buffer.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <unordered_map>
#include <vector>

#include "abi.hpp"
#include "cache_tensor.hpp"
#include "device.hpp"
#include "log.hpp"
#include "policy.hpp"
#include "report.hpp"

namespace turboquant::ggml {
namespace {

struct BufferContext {
    std::uint8_t* base = nullptr;
    std::size_t size = 0, reserved = 0;
    ggml_backend_buffer_t host = nullptr;  // the same addresses as ordinary memory, for tensors that are no caches
    Policy policy;
    std::unordered_map<const ggml_tensor*, std::unique_ptr<CacheTensor>> caches;

    ~BufferContext() {
        std::vector<CacheTensor*> held;
        for (const auto& [root, cache] : caches) held.push_back(cache.get());
        report_held(held);
        caches.clear();
        if (host) ggml_backend_buffer_free(host);
        if (base) munmap(base, reserved);
    }
};

BufferContext& context_of(ggml_backend_buffer_t buffer) { return *static_cast<BufferContext*>(buffer->context); }

const ggml_tensor* root_of(const ggml_tensor* tensor) {
    while (tensor->view_src) tensor = tensor->view_src;
    return tensor;
}

// Where a (view of a) cache tensor begins within its root.
std::size_t offset_in_root(const ggml_tensor* tensor) {
    return static_cast<std::size_t>(static_cast<const char*>(tensor->data) - static_cast<const char*>(root_of(tensor)->data));
}

}  // namespace

ggml_backend_buffer_type_t buffer_type() {
    static ggml_backend_buffer_type type{buffer_type_interface(), device(), nullptr};
    return &type;
}

bool is_our_buffer(ggml_backend_buffer_t buffer) { return buffer && buffer->iface.free_buffer == buffer_free; }

CacheTensor* find_cache_tensor(const ggml_tensor* tensor) {
    const ggml_tensor* root = root_of(tensor);
    if (!is_our_buffer(root->buffer) || !root->buffer->context) return nullptr;
    const auto& caches = context_of(root->buffer).caches;
    const auto found = caches.find(root);
    return found == caches.end() ? nullptr : found->second.get();
}

const char* buffer_type_name(ggml_backend_buffer_type_t) { return "TurboQuant"; }
size_t buffer_type_alignment(ggml_backend_buffer_type_t) { return 64; }

ggml_backend_buffer_t buffer_type_alloc(ggml_backend_buffer_type_t type, size_t size) {
    auto context = std::make_unique<BufferContext>();
    auto policy = current_policy();
    if (!policy.ok()) {
        report_once(GGML_LOG_LEVEL_ERROR, policy.status().message());
        return nullptr;
    }
    context->policy = policy.value();
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    context->size = size;
    context->reserved = (size + page) / page * page;
    void* range = mmap(nullptr, context->reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
        log_line(GGML_LOG_LEVEL_ERROR, "the system has no addresses left for a buffer of %zu bytes", size);
        return nullptr;
    }
    context->base = static_cast<std::uint8_t*>(range);
    context->host = ggml_backend_dev_buffer_from_host_ptr(cpu_device(), range, context->reserved, context->reserved);
    if (!context->host) return nullptr;
    return ggml_backend_buffer_init(type, buffer_interface(), context.release(), size);
}

void buffer_free(ggml_backend_buffer_t buffer) { delete &context_of(buffer); }
void* buffer_base(ggml_backend_buffer_t buffer) { return context_of(buffer).base; }

ggml_status buffer_init_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor) {
    BufferContext& context = context_of(buffer);
    int layer = 0;
    CacheSide side{};
    const ggml_tensor* root = root_of(tensor);
    if (!parse_cache_name(root->name, layer, side)) {
        tensor->buffer = context.host;
        return GGML_STATUS_SUCCESS;
    }
    if (root == tensor) context.caches[tensor] = std::make_unique<CacheTensor>(tensor, layer, side, context.policy.spec_for(layer));
    return GGML_STATUS_SUCCESS;
}

void buffer_memset_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, uint8_t value, size_t offset, size_t size) {
    if (CacheTensor* cache = find_cache_tensor(tensor)) {
        cache->fill(value, offset_in_root(tensor) + offset, size);
    } else {
        std::memset(static_cast<char*>(tensor->data) + offset, value, size);
    }
}

void buffer_set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
    if (CacheTensor* cache = find_cache_tensor(tensor)) {
        cache->set(data, offset_in_root(tensor) + offset, size);
    } else {
        std::memcpy(static_cast<char*>(tensor->data) + offset, data, size);
    }
}

void buffer_get_tensor(ggml_backend_buffer_t, const ggml_tensor* tensor, void* data, size_t offset, size_t size) {
    if (const CacheTensor* cache = find_cache_tensor(tensor)) {
        cache->get(data, offset_in_root(tensor) + offset, size);
    } else {
        std::memcpy(data, static_cast<const char*>(tensor->data) + offset, size);
    }
}

bool buffer_copy_tensor(ggml_backend_buffer_t, const ggml_tensor* source, ggml_tensor* target) {
    CacheTensor* cache = find_cache_tensor(target);
    if (!cache || cache != find_cache_tensor(source)) return false;
    const std::size_t stream_bytes = cache->root()->nb[2], from = offset_in_root(source), to = offset_in_root(target);
    if (ggml_nbytes(source) != stream_bytes || ggml_nbytes(target) != stream_bytes || from % stream_bytes || to % stream_bytes) return false;
    cache->copy_stream(static_cast<int>(from / stream_bytes), static_cast<int>(to / stream_bytes));
    return true;
}

void buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    BufferContext& context = context_of(buffer);
    for (auto& [root, cache] : context.caches) cache->clear(value);
    if (value == 0) {  // pages given back come again as zeros
        madvise(context.base, context.reserved, MADV_DONTNEED);
    } else if (context.caches.empty()) {
        std::memset(context.base, value, context.size);
    }
}

}  // namespace turboquant::ggml
