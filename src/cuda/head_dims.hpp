// The head sizes that kernels are compiled for, and how one is picked. CMakeLists.txt beside this file reads the list from here.
#pragma once

#include <array>
#include <type_traits>

namespace turboquant::cuda {

template <int... kDims>
struct HeadDimList {
    static constexpr std::array<int, sizeof...(kDims)> kAll = {kDims...};

    // The result of f(std::integral_constant<int, head_dim>()) for a head_dim of the list; of another one, a value-initialised one.
    template <class F>
    static auto pick(int head_dim, F&& f) {
        std::common_type_t<decltype(f(std::integral_constant<int, kDims>()))...> result{};
        ((head_dim == kDims ? (result = f(std::integral_constant<int, kDims>()), true) : false) || ...);
        return result;
    }
};
using HeadDims = HeadDimList<64, 80, 96, 112, 128, 192, 256>;

}  // namespace turboquant::cuda
