#pragma once

#include <gtest/gtest.h>
#include <transformers/utils/nn/device.h>

#define SKIP_WITHOUT_CUDA()                           \
  if (::transformers::cuda_device_count() == 0) {     \
    GTEST_SKIP() << "no CUDA device on this machine"; \
  }                                                   \
  static_assert(true)

#define SKIP_WITHOUT_CUDA_DEVICES(count)                                         \
  if (::transformers::cuda_device_count() < (count)) {                           \
    GTEST_SKIP() << "fewer than " << (count) << " CUDA devices on this machine"; \
  }                                                                              \
  static_assert(true)
