#include "machine.hpp"

#include <sched.h>
#include <sys/utsname.h>
#include <algorithm>
#include <ctime>
#include <fstream>
#include <set>
#include <string>

#include <fmt/format.h>

namespace turboquant::tool {
namespace {

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// Cores allowed by a cgroup v2 limit ("max 100000" or "200000 100000"); 0 when there is none.
int cgroup_limit() {
    std::ifstream file("/sys/fs/cgroup/cpu.max");
    double quota = 0, period = 0;
    if (!(file >> quota >> period) || period <= 0) return 0;
    return std::max(1, static_cast<int>(quota / period + 0.5));
}

}  // namespace

std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with("model name")) continue;
        const auto start = line.find_first_not_of(" \t", line.find(':') + 1);
        if (start != std::string::npos) return line.substr(start);
    }
    const std::string device = first_line("/sys/firmware/devicetree/base/model");  // most ARM boards
    if (!device.empty()) return device.c_str();                                    // it ends in a zero byte
    utsname system{};
    return uname(&system) == 0 ? system.machine : "unknown processor";
}

int default_threads() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    std::set<std::string> cores;  // two hardware threads of one core have the same sibling list
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        const std::string siblings = first_line(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
        cores.insert(siblings.empty() ? fmt::format("cpu{}", cpu) : siblings);
    }
    const int count = std::max(1, static_cast<int>(cores.size()));
    const int limit = cgroup_limit();
    return limit > 0 ? std::min(count, limit) : count;
}

std::string now_iso8601() {
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    char text[40];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local);
    return text;
}

}  // namespace turboquant::tool
