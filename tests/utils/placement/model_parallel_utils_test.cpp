#include <transformers/utils/placement/model_parallel_utils.h>

#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

using Blocks = std::vector<int64_t>;

c10::Device gpu(int index) { return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)}; }

// Expected maps are those of get_device_map, transformers 4.37.2.
TEST(GetDeviceMapTest, GivesEachDeviceConsecutiveBlocks) {
  const BlocksByDevice expected{{gpu(0), {0, 1, 2}}, {gpu(1), {3, 4, 5}}, {gpu(2), {6}}};
  EXPECT_EQ(get_device_map(7, {gpu(0), gpu(1), gpu(2)}), expected);
}

TEST(GetDeviceMapTest, LeavesDevicesOutThatWouldGetNothing) {
  const BlocksByDevice expected{{gpu(0), {0, 1}}, {gpu(1), {2, 3}}, {gpu(2), {4}}};
  EXPECT_EQ(get_device_map(5, {gpu(0), gpu(1), gpu(2), gpu(3)}), expected);
}

TEST(GetDeviceMapTest, NeedsADevice) { EXPECT_ERROR(get_device_map(5, {}), "no device"); }

TEST(AssertDeviceMapTest, TakesAnyOrderOfBlocks) { assert_device_map({{gpu(0), {3, 0}}, {c10::kCPU, {2, 1}}}, 4); }

TEST(AssertDeviceMapTest, NamesBlocksThatStandTwice) {
  EXPECT_ERROR(assert_device_map({{gpu(0), {0, 1, 1}}, {gpu(1), {1, 2, 0}}}, 5), "more than once", "[1, 0]");
}

TEST(AssertDeviceMapTest, NamesMissingBlocks) {
  EXPECT_ERROR(assert_device_map({{gpu(0), {0, 7}}, {gpu(1), {3}}}, 5), "have no device", "[1, 2, 4]");
}

TEST(AssertDeviceMapTest, NamesBlocksThatTheModelLacks) {
  EXPECT_ERROR(assert_device_map({{gpu(0), {0, 1, 2}}, {gpu(1), {-1, 9}}}, 3), "3 blocks", "[-1, 9]");
}

}  // namespace
}  // namespace transformers::testing
