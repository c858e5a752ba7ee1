#include "ops/interpreter.hpp"
namespace tenfold {
__attribute__((weak)) std::vector<Tensor> interpret(const Graph&, std::span<const Tensor>, const InterpretOptions&) { return {}; }
}
