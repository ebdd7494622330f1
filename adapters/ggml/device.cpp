#include "device.hpp"

#include <cstring>
#include <memory>
#include <string>

#include "abi.hpp"
#include "buffer.hpp"
#include "cache_tensor.hpp"
#include "graph.hpp"
#include "policy.hpp"
#include "report.hpp"
#include "turboquant/cpu.hpp"

namespace turboquant::ggml {
namespace {

GraphRunner& runner_of(ggml_backend_t backend) { return *static_cast<GraphRunner*>(backend->context); }

// Calls a function that the CPU backend offers by name, on the backend inside ours.
template <class Function, class... Arguments>
void forward(ggml_backend_t backend, const char* name, Arguments... arguments) {
    if (backend->iface.graph_compute != backend_graph_compute) return;
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(cpu_device());
    if (auto* function = reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(reg, name))) function(runner_of(backend).inner(), arguments...);
}

void set_n_threads(ggml_backend_t backend, int n_threads) {
    forward<ggml_backend_set_n_threads_t>(backend, "ggml_backend_set_n_threads", n_threads);
}

void set_abort_callback(ggml_backend_t backend, ggml_abort_callback callback, void* data) {
    forward<ggml_backend_set_abort_callback_t>(backend, "ggml_backend_set_abort_callback", callback, data);
}

// A tensor in a buffer of our type: real, or one of the empty ones with which the engine asks what would be possible.
bool lies_on_device(const ggml_tensor* tensor) {
    while (tensor->view_src) tensor = tensor->view_src;
    return tensor->buffer && ggml_backend_buffer_get_type(tensor->buffer) == buffer_type();
}

bool is_cache_name(const ggml_tensor* tensor) {
    while (tensor->view_src) tensor = tensor->view_src;
    return std::strncmp(tensor->name, "cache_", 6) == 0;
}

}  // namespace

ggml_backend_dev_t cpu_device() {
    static ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    return cpu;
}

ggml_backend_dev_t device() {
    static ggml_backend_device instance{device_interface(), tq_ggml_reg(), nullptr};
    return &instance;
}

const char* device_name(ggml_backend_dev_t) { return "TQ0"; }

const char* device_description(ggml_backend_dev_t) {
    static const std::string text = "TurboQuant KV cache on the CPU (" + isa_name() + ")";
    return text.c_str();
}

void device_memory(ggml_backend_dev_t, size_t* free, size_t* total) { ggml_backend_dev_memory(cpu_device(), free, total); }
enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }

void device_props(ggml_backend_dev_t dev, ggml_backend_dev_props* props) {
    *props = {};
    props->name = device_name(dev);
    props->description = device_description(dev);
    props->type = device_type(dev);
    device_memory(dev, &props->memory_free, &props->memory_total);
}

ggml_backend_t device_init_backend(ggml_backend_dev_t dev, const char*) {
    if (auto policy = current_policy(); !policy.ok()) {
        report_once(GGML_LOG_LEVEL_ERROR, policy.status().message());
        return nullptr;
    }
    if (const std::string problem = forced_isa_problem(); !problem.empty()) {
        report_once(GGML_LOG_LEVEL_WARN, problem + "; " + isa_name() + " serves instead (turboquant info lists what there is)");
    }
    ggml_backend_t inner = ggml_backend_dev_init(cpu_device(), nullptr);
    if (!inner) return nullptr;
    static ggml_guid guid = {0x54, 0x51, 0x30, 0x2d, 0x63, 0x70, 0x75, 0x2d, 0x6b, 0x76, 0x2d, 0x63, 0x61, 0x63, 0x68, 0x65};
    return new ggml_backend{&guid, backend_interface(), dev, new GraphRunner(inner)};
}

const char* backend_name(ggml_backend_t) { return "TQ0"; }

void backend_free(ggml_backend_t backend) {
    const std::unique_ptr<GraphRunner> runner(&runner_of(backend));
    delete backend;
}

ggml_status backend_graph_compute(ggml_backend_t backend, ggml_cgraph* graph) { return runner_of(backend).run(graph); }

ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t) { return buffer_type(); }

bool device_supports_op(ggml_backend_dev_t, const ggml_tensor* op) {
    bool ours = find_cache_tensor(op) != nullptr, elsewhere = false;
    for (const ggml_tensor* source : op->src) {
        if (!source) continue;
        // Weights have no business here: they stay mapped, or repacked for the CPU.
        if (lies_on_device(source) && !is_cache_name(source)) return false;
        ours |= find_cache_tensor(source) != nullptr;
        elsewhere |= is_cache_name(source) && !lies_on_device(source);
    }
    // A layer whose cache lies on the CPU belongs to the CPU; taking its attention would make the engine switch flash attention off.
    if (elsewhere && !ours && (op->op == GGML_OP_FLASH_ATTN_EXT || op->op == GGML_OP_SET_ROWS)) return false;
    if (ours && classify(op) == NodeUse::foreign) make_plain(op);
    return ggml_backend_dev_supports_op(cpu_device(), op);
}

bool device_supports_buffer_type(ggml_backend_dev_t, ggml_backend_buffer_type_t type) {
    return type == buffer_type() || ggml_backend_dev_supports_buft(cpu_device(), type);
}

const char* reg_name(ggml_backend_reg_t) { return "TurboQuant"; }
size_t reg_device_count(ggml_backend_reg_t) { return cpu_device() ? 1 : 0; }
ggml_backend_dev_t reg_device(ggml_backend_reg_t, size_t index) { return index == 0 ? device() : nullptr; }

void* reg_proc_address(ggml_backend_reg_t, const char* name) {
    const struct {
        const char* name;
        void* function;
    } offered[] = {
        {"ggml_backend_set_n_threads", reinterpret_cast<void*>(set_n_threads)},
        {"ggml_backend_set_abort_callback", reinterpret_cast<void*>(set_abort_callback)},
        {"tq_ggml_set_policy", reinterpret_cast<void*>(tq_ggml_set_policy)},
        {"tq_ggml_get_stats", reinterpret_cast<void*>(tq_ggml_get_stats)},
        {"tq_ggml_get_tensor", reinterpret_cast<void*>(tq_ggml_get_tensor)},
    };
    for (const auto& entry : offered) {
        if (std::strcmp(entry.name, name) == 0) return entry.function;
    }
    return nullptr;
}

}  // namespace turboquant::ggml

extern "C" ggml_backend_reg_t tq_ggml_reg(void) {
    static ggml_backend_reg instance{GGML_BACKEND_API_VERSION, turboquant::ggml::reg_interface(), nullptr};
    return &instance;
}
