// The pixels of a convolution's result, one after the other.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm.hpp"

namespace tenfold::cpu::TENFOLD_TIER {

/// Output pixels in order, with the input coordinates of their windows' first positions.
class PixelWalk {
 public:
  PixelWalk(const ConvRows& conv, std::int64_t first) : conv_(conv) {
    x_ = first % conv.out[2];
    y_ = first / conv.out[2] % conv.out[1];
    z_ = first / conv.out[2] / conv.out[1] % conv.out[0];
    image = first / conv.out[2] / conv.out[1] / conv.out[0];
    set();
  }
  void next() {
    if (++x_ == conv_.out[2]) {
      x_ = 0;
      if (++y_ == conv_.out[1]) {
        y_ = 0;
        if (++z_ == conv_.out[0]) {
          z_ = 0;
          ++image;
        }
      }
    }
    set();
  }
  std::int64_t image, z, y, x;

 private:
  void set() {
    z = z_ * conv_.stride[0] - conv_.pad[0];
    y = y_ * conv_.stride[1] - conv_.pad[1];
    x = x_ * conv_.stride[2] - conv_.pad[2];
  }
  const ConvRows& conv_;
  std::int64_t z_, y_, x_;
};

}  // namespace tenfold::cpu::TENFOLD_TIER
